"""Finds the most similar of some rows to one query, repeatedly with other rows: the search behind filters and caps.

Few rows are gathered and compared directly. Many are searched by the inverted file if there is an index. Products are cached
for further calls with some of the same rows, which caps make.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.engine.search import scan
from streams.engine.search.quality import RECALL_AT
from streams.engine.search.searcher import MOST_LOOKED_AT, Searcher
from streams.engine.search.upper import Rows, UpperBounds
from streams.engine.similarity import exact_similarity
from streams.engine.types import Scores, Vectors

# For fewer rows than this share of the catalogue, products with each cost less than probes whose members mostly do not count.
GATHERED_SHARE: Final = 0.05
# And without cells, less than one with all, as their vectors are copied to be multiplied: 0.3 of 14,765 x 253 take a third of
# the time that all do, a half takes longer.
COPIED_SHARE: Final = 0.3
_NOTHING: Final = np.empty(0, dtype=np.intp)


class MaskedSearch:
    """One query to a catalogue that does not change meanwhile.

    Args:
        searcher: The catalogue.
        query: float32 (d,); scaled to unit length if it is longer.
        known: Rows that are looked at whatever an index says: those of a list that is known.

    Raises:
        ValueError: The query has another dimension, or is zero or not finite.
    """

    def __init__(self, searcher: Searcher, query: Vectors, known: Rows = _NOTHING) -> None:
        self._searcher = searcher
        self._tracks = searcher.tracks
        self._query = searcher.checked(query[None], shorter=True)
        self._reduced = self._tracks.columns.of(self._query)
        self._known = known
        # Rows, and products with them.
        self._made: tuple[Rows, Scores] = _NOTHING, np.empty(0, dtype=np.float32)
        # The similarity of what has been found so far, by row.
        self._found: dict[int, float] = {}
        self.exact = True

    def similarity(self, rows: Rows) -> Scores:
        """The similarity of some rows, float32 (m,)."""
        try:
            return np.array([self._found[row] for row in rows.tolist()], dtype=np.float32)
        except KeyError:
            return exact_similarity(self._query[0], self._tracks.vectors[rows])

    def nearest(self, eligible: npt.NDArray[np.bool_], count: int) -> tuple[Rows, Scores]:
        """The most similar rows, best first, equal ones by track id, and their similarity, float32.

        Args:
            eligible: bool (used,), the rows to look at, all of which hold a track.
            count: How many at most.
        """
        rows, scores = self._nearest(eligible, count)
        self._found.update(zip(rows.tolist(), scores.tolist(), strict=True))
        return rows, scores

    def _nearest(self, eligible: npt.NDArray[np.bool_], count: int) -> tuple[Rows, Scores]:
        there = int(np.count_nonzero(eligible))
        if not there:
            return _NOTHING, np.empty(0, dtype=np.float32)
        upper = self._again(eligible, there)
        if upper is None and there > max(GATHERED_SHARE * len(eligible), count):
            found = self._by_cells(eligible, count)
            if found is not None:
                self.exact = False
                return found
        return scan.best_by_bounds(
            self._tracks, self._query[0], upper or self._bounds(eligible, there), min(count, there)
        )

    def _again(self, eligible: npt.NDArray[np.bool_], there: int) -> UpperBounds | None:
        """Bounds of so many eligible rows from the products that there are; None where some are missing."""
        rows, products = self._made
        wanted = eligible[rows]
        if np.count_nonzero(wanted) < there:
            return None
        return UpperBounds(
            products[wanted], rows[wanted].__getitem__, self._tracks.columns.excess(self._reduced[0])
        )

    def _bounds(self, eligible: npt.NDArray[np.bool_], there: int) -> UpperBounds:
        """Bounds of so many eligible rows."""
        rows = np.flatnonzero(eligible)
        if there < COPIED_SHARE * len(eligible):
            (upper,) = scan.bounds_of_rows(self._tracks, self._reduced, rows)
            self._made = rows, upper.products
            return upper
        (whole,) = scan.bounds_of_all(self._tracks, self._reduced, _NOTHING)
        self._made = np.arange(len(eligible)), whole.products
        return UpperBounds(whole.products[rows], rows.__getitem__, whole.excess)

    def _by_cells(self, eligible: npt.NDArray[np.bool_], count: int) -> tuple[Rows, Scores] | None:
        """What an index says; None where there is none, or it is not to be trusted with this."""
        supervisor, wanted = self._searcher.supervisor, max(count, RECALL_AT)
        if not supervisor.size or wanted > supervisor.size // 10:
            return None
        hidden = np.flatnonzero(~eligible)
        indexed = hidden[: np.searchsorted(hidden, supervisor.size)]
        if wanted > supervisor.size - len(indexed):
            return None
        probe = supervisor.look(self._reduced, wanted, indexed)
        if probe is None or probe.left[0] > supervisor.size * MOST_LOOKED_AT:
            return None
        (upper,) = probe.finish(np.zeros(1, dtype=np.intp), self._tracks.columns.excess)
        if self._tracks.used > supervisor.size:
            (newer,) = scan.bounds_of_all(self._tracks, self._reduced, hidden, supervisor.size)
            upper = upper.joined(newer)
        rows, scores = scan.best_by_bounds(self._tracks, self._query[0], upper, wanted)
        if len(rows) < wanted or not supervisor.trusts_cells(scores):
            return None
        more = self._known[eligible[self._known]]
        more = more[~np.isin(more, rows)]
        if len(more):
            rows, scores = np.concatenate([rows, more]), np.concatenate([scores, self.similarity(more)])
            order = scan.best_of_rows(self._tracks, rows, scores, count)
            return rows[order], scores[order]
        return rows[:count], scores[:count]

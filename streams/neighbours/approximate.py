"""The engine of catalogues too large to compare every newcomer with at once.

Up to a stated size it is the exact engine. Beyond, a newcomer is compared with the tracks of the cells nearest to it and
with those on the lists of the nearest found there: with few, and with nearly all that count. What it enters is checked
against the horizons, so that no list ever names a track that ranks below what it is known to hold. The newcomer is
*pending* then. In idle time pending tracks are compared with the whole catalogue, as the exact engine would have done at
once; when none is left, the lists are those of the exact engine, which the tests hold it against.
"""

import numpy as np
import numpy.typing as npt

from streams.neighbours.exact import ExactEngine
from streams.neighbours.lists import UNKNOWN
from streams.neighbours.nearest import Found
from streams.neighbours.types import EngineStats, Slots, StoredLists

Rows = npt.NDArray[np.intp]

# Up to so many tracks a batch is compared with all of them.
EXACT_UPTO = 200_000
# With more lists than this to be made, those of a cell are made one after the other.
MANY = 2_048
# How often each of them is gone over again before others have their turn.
AGAIN = 2


class ApproximateEngine(ExactEngine):
    """A `NeighbourEngine` that is exact at once up to a size, and exact in the end beyond it.

    Args:
        dimension: d of the vectors.
        published: How many neighbours the world sees.
        kept: How many are kept.
        exact_upto: The size up to which newcomers are compared with the whole catalogue at once.
    """

    def __init__(
        self, dimension: int, *, published: int = 50, kept: int = 100, exact_upto: int = EXACT_UPTO
    ) -> None:
        super().__init__(dimension, published=published, kept=kept)
        self.exact_upto = exact_upto
        self._unknown_lists: Slots = np.empty(0, dtype=np.int32)
        self._rough_lists: Slots = np.empty(0, dtype=np.int32)

    @property
    def _is_large(self) -> bool:
        return len(self.catalogue) > self.exact_upto and self.nearest.look_near()

    def _load_lists(self, lists: StoredLists, without: Slots) -> Slots:
        loaded = super()._load_lists(lists, without)
        if len(self.catalogue) > self.exact_upto // 2:
            # Nothing stored says which of them had been compared with all, nor that the catalogue was no larger then.
            self.lists.pending[loaded] = True
        return loaded

    def _find(self, rows: Slots, own: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_] | None) -> Found:
        lists = self.lists
        # A refill of a list that is known replaces what is right by what is right.
        if self._is_large and (others is not None or (lists.horizon[rows] == UNKNOWN).all()):
            lists.pending[rows] = lists.touched[rows] = True
            return self.nearest.search_near(rows, others)
        if others is not None:
            lists.pending[rows] = False
        return super()._find(rows, own, others)

    def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`. Lists not known at all come first, then short ones, then pending tracks."""
        waiting = self._make_unknown(limit)
        if waiting:
            return waiting
        waiting = super().refill(limit)
        pending = np.flatnonzero(self.lists.pending[: self.catalogue.used])
        if waiting or not len(pending):
            return waiting
        self._compare(pending[:limit].astype(np.int32))
        return max(0, len(pending) - limit)

    def _make_unknown(self, limit: int) -> int:
        """Make lists of a large catalogue that came without; how many are left."""
        if not len(self._unknown_lists) and not len(self._rough_lists):
            used = self.catalogue.used
            unknown = self.lists.short(self.catalogue.alive[:used], 1).astype(np.int32)
            unknown = unknown[self.lists.horizon[unknown] == UNKNOWN]
            if len(unknown) < MANY or not self._is_large or self.nearest.cells is None:
                return 0
            self._unknown_lists = unknown[self.nearest.cells.order(unknown)]
            # Again when all have lists: those of the nearest lead to what the cells have missed.
            self._rough_lists = np.tile(self._unknown_lists, AGAIN)
        if len(self._unknown_lists):
            rows, self._unknown_lists = self._unknown_lists[:limit], self._unknown_lists[limit:]
            wanted = self.lists.horizon[rows] == UNKNOWN
        else:
            rows, self._rough_lists = self._rough_lists[:limit], self._rough_lists[limit:]
            wanted = self.lists.pending[rows]
        wanted &= self.catalogue.alive[rows] & self.lists.owned[rows]
        if wanted.any():
            self._fill_near(rows[wanted])
        return len(self._unknown_lists) + len(self._rough_lists)

    def _fill_near(self, rows: Slots) -> None:
        self.nearest.prepare()
        found = self.nearest.search_near(rows, None)
        track_ids = self.catalogue.track_ids
        differs = self.lists.put(rows, found.best, found.scores, track_ids, complete=False)
        self.lists.changed[rows] |= differs
        self.lists.pending[rows] = True
        self._refilled += len(rows)

    def _compare(self, rows: Slots) -> None:
        """Compare tracks with the whole catalogue: their own lists, and those of others that aren't pending."""
        self.nearest.prepare()
        lists, catalogue = self.lists, self.catalogue
        others = catalogue.alive[: catalogue.used] & ~lists.pending[: catalogue.used]
        events = catalogue.events[rows]
        step = self.nearest.step
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            own = lists.owned[part]
            found = self.nearest.search(part, own, others)
            complete = len(catalogue) - 1 <= lists.kept
            differs = lists.put(
                part[own], found.best[own], found.scores[own], catalogue.track_ids, complete=complete
            )
            lists.changed[part[own]] |= differs
            self._enter(found, part, np.arange(start, start + len(part)), events)
            lists.pending[part] = False
            # Those that come later in this very call were compared with nobody's list of these.
            others[part] = True

    def stats(self) -> EngineStats:
        """See `NeighbourEngine.stats`."""
        found = super().stats()
        return EngineStats(
            tracks=found.tracks,
            changed_lists=found.changed_lists,
            waiting_refills=found.waiting_refills + len(self._rough_lists),
            refilled=found.refilled,
            memory_bytes=found.memory_bytes,
            seconds=found.seconds,
            compiled=found.compiled,
            unverified=int(self.lists.pending[: self.catalogue.used].sum()),
        )

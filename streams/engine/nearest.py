"""The engine's search: finds the neighbours of tracks, and the lists that they may enter.

There are two ways to the same answer, equal to the bit. In numpy, the product of the rows' vectors with all vectors, which has a
proven error bound, selects the pairs to compute exactly. With the compiled loops, upper bounds from fewer dimensions select
them (see `projection`), and a row of the product is read once, while it is in the processor's cache.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.engine.acceleration import Kernels
from streams.engine.catalogue import Catalogue
from streams.engine.inverted_file import InvertedFile
from streams.engine.lists import UNKNOWN, NeighbourLists
from streams.engine.projection import Projection
from streams.engine.similarity import (
    GROUPS_PER_ENTRY,
    exact_similarity,
    group_maxima,
    order_within,
    product_error,
)
from streams.engine.types import EMPTY, EntryLimits, Scores, Slots, TrackArrays, Vectors

# Rows of a product are sliced so that it holds at most this many float32 values (128 MiB).
PRODUCT_VALUES = 32 * 1024 * 1024
PRODUCT_ROWS = 256
# Probes of a newcomer in a large catalogue (nprobe): lists of the tracks found there add more than further probes.
PROBES = 16
# Number of tracks, from the nearest cells, that the tracks of a cell are compared with when all lists are computed.
AMONG = 8_192
# Seconds of one slice of projecting the catalogue.
FITTING_SECONDS = 0.02
# Slots that rows are multiplied with at a time where little of what comes out is looked at twice.
TILE = 8_192
# Rows that a thread takes at a time.
THREAD_ROWS = 64


@dataclass(frozen=True, slots=True)
class EngineMatches:
    """What a search for m tracks found.

    Attributes:
        best: int32 (m, kept), their lists; past the end, and where none was wanted, `EMPTY`.
        scores: float32 (m, kept), the similarities; past the end -inf.
        row: int32 (n,), which of the m tracks...
        targets: int32 (n,), ... may enter which list: it ranks at or above the horizon's similarity ...
        entries: float32 (n,), ... with which similarity.
    """

    best: Slots
    scores: Scores
    row: Slots
    targets: Slots
    entries: Scores


class NeighbourSearch:
    """Searches a catalogue.

    Args:
        catalogue: What to search.
        lists: Whose horizons say which lists a track may enter.
        timed: Takes a phase's name and gives a context that counts its seconds.
    """

    def __init__(self, catalogue: Catalogue, lists: NeighbourLists, timed: Callable[[str], Any]) -> None:
        self.projection = Projection(catalogue.dimension)
        self.computed = 0
        self.cells: InvertedFile | None = None
        self.probes = PROBES
        self.among = AMONG
        self._last_computed = 0
        self._memory = threading.local()
        self._catalogue = catalogue
        self._lists = lists
        self._timed = timed
        self._error = product_error(catalogue.dimension)
        self._kernels: Kernels | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._thread_count = min(4, len(os.sched_getaffinity(0)))

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled loops are in use."""
        return self._kernels is not None

    def accelerate(self, kernels: Kernels) -> None:
        """Use the compiled loops from now on, and share rows out among threads of our own.

        Those of BLAS would wait for each other at every product, and these as well.
        """
        if self._kernels is not None:
            return
        threadpool_limits(limits=1, user_api="blas")
        self._kernels = kernels
        self._threads = ThreadPoolExecutor(self._thread_count, thread_name_prefix="nearest")

    def prepare(self) -> None:
        """Compute principal components, if due, for one slice of time."""
        if self._kernels is not None:
            with self._timed("projection"):
                catalogue = self._catalogue
                alive = catalogue.alive[: catalogue.used]
                self.projection.fit(catalogue.vectors, alive, self._lists.kept, FITTING_SECONDS)

    def update(self, slots: Slots) -> None:
        """Update projection and cells for new vectors in these slots."""
        with self._timed("projection"):
            self.projection.update(self._catalogue.vectors, slots)
        if self.cells is not None:
            with self._timed("cells"):
                self.cells.place(self._catalogue.vectors, slots)

    def forget(self, slots: Slots) -> None:
        """Remove these slots from the cells."""
        if self.cells is not None:
            self.cells.forget(slots)

    def look_near(self, seconds: float) -> bool:
        """Get ready for `search_near` and `search_cells`, for about so long at a time; whether it is done.

        It never is without the compiled loops.
        """
        if self._kernels is None:
            return False
        if self.cells is None:
            slots = np.flatnonzero(self._catalogue.alive[: self._catalogue.used]).astype(np.int32)
            self.cells = InvertedFile(self._catalogue.vectors, slots)
        if self.cells.ready:
            return True
        with self._timed("cells"):
            return self.cells.advance(seconds)

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return self.projection.memory_bytes + (self.cells.memory_bytes if self.cells else 0)

    @property
    def step(self) -> int:
        """How many rows to search for at a time."""
        return max(1, min(PRODUCT_ROWS, PRODUCT_VALUES // max(self._catalogue.used, 1)))

    def search(
        self, rows: Slots, wanted: npt.NDArray[np.bool_], open_to: npt.NDArray[np.bool_] | None
    ) -> EngineMatches:
        """Search for some tracks, at most `step`.

        Args:
            rows: int32 (m,), their slots.
            wanted: bool (m,), whose lists to make.
            open_to: bool (used,), which slots' lists may be entered; None for none.
        """
        if self._kernels is not None:
            return self._search_compiled(self._kernels, rows, wanted, open_to)
        return self._search(rows, wanted, open_to)

    def _bounds(self, open_to: npt.NDArray[np.bool_] | None, error: np.float32) -> Scores:
        """What a product must reach for a track to enter a list, float32 (used,)."""
        used = self._catalogue.used
        if open_to is None:
            return np.full(used, UNKNOWN, dtype=np.float32)
        bounds: Scores = np.where(open_to, self._lists.horizon[:used] - error, UNKNOWN)
        return bounds

    def _search_compiled(
        self,
        kernels: Kernels,
        rows: Slots,
        wanted: npt.NDArray[np.bool_],
        open_to: npt.NDArray[np.bool_] | None,
    ) -> EngineMatches:
        lists, used = self._lists, self._catalogue.used
        matrix, error = self._matrix()
        tracks, entry = self._tracks(), EntryLimits(self._bounds(open_to, error), lists.horizon, error)

        def run(part: slice, best: Slots, scores: Scores) -> tuple[Slots, Slots, Scores, int]:
            found: tuple[Slots, Slots, Scores, int] = kernels.search(
                self._product_of(matrix[rows[part]], matrix[:used]),
                rows[part],
                wanted[part],
                tracks,
                entry,
                best,
                scores,
                GROUPS_PER_ENTRY * lists.kept,
            )
            return found

        found = self._shared(len(rows), run)
        self.projection.judge(self._last_computed, len(rows), used)
        return found

    def _product_of(self, some: Vectors, others: Vectors) -> Scores:
        """The product of two sets of vectors, in memory that the thread keeps: fresh pages cost more than the product."""
        size = len(some) * len(others)
        memory: Scores | None = getattr(self._memory, "values", None)
        if memory is None or len(memory) < size:
            memory = self._memory.values = np.empty(size + size // 4, dtype=np.float32)
        product: Scores = np.matmul(some, others.T, out=memory[:size].reshape(len(some), len(others)))
        return product

    def search_near(self, rows: Slots, open_to: npt.NDArray[np.bool_] | None) -> EngineMatches:
        """As `search` for lists of all the rows, in the nearest cells only; `look_near` must have returned true.

        Args:
            rows: int32 (m,), their slots; those of a cell, one after the other, are found fastest.
            open_to: bool (used,), which slots' lists may be entered; None for none.
        """
        assert self.cells is not None
        assert self._kernels is not None
        cells, lists, kernels = self.cells, self._lists, self._kernels
        matrix, error = self._matrix()
        tracks, entry = self._tracks(), EntryLimits(self._bounds(open_to, error), lists.horizon, error)
        with self._timed("cells"):
            probes = cells.nearest(tracks.vectors[rows], self.probes)

        def run(part: slice, best: Slots, scores: Scores) -> tuple[Slots, Slots, Scores, int]:
            found: tuple[Slots, Slots, Scores, int] = kernels.search_near(
                rows[part],
                probes[part],
                cells.members,
                cells.counts,
                matrix,
                tracks,
                lists.row_of,
                lists.slots,
                entry,
                best,
                scores,
                lists.published,
            )
            return found

        return self._shared(len(rows), run)

    def search_cells(self, rows: Slots, open_to: npt.NDArray[np.bool_]) -> EngineMatches:
        """Improve lists cell by cell: all tracks of a cell are compared with the same others, in one product.

        Args:
            rows: int32 (m,), their slots, those of a cell one after the other.
            open_to: bool (slots,), which slots' lists may be entered.
        """
        assert self.cells is not None
        assert self._kernels is not None
        cells, lists, kernels = self.cells, self._lists, self._kernels
        matrix, error = self._matrix()
        tracks = self._tracks()
        ends = np.flatnonzero(np.diff(cells.of(rows), append=EMPTY - 1)) + 1
        shares = [
            slice(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
        ]

        def run(part: slice, best: Slots, scores: Scores) -> tuple[Slots, Slots, Scores, int]:
            best[:], scores[:] = lists.slots[lists.row_of[rows[part]]], lists.scores[lists.row_of[rows[part]]]
            among = cells.around(tracks.vectors[rows[part]], self.among)
            bounds = np.where(open_to[among], lists.horizon[among] - error, UNKNOWN)
            found: tuple[Slots, Slots, Scores, int] = kernels.search_among(
                self._product_of(matrix[rows[part]], matrix[among]),
                rows[part],
                among,
                tracks,
                EntryLimits(bounds, lists.horizon, error),
                best,
                scores,
                GROUPS_PER_ENTRY * lists.kept,
            )
            return found

        return self._shared(len(rows), run, shares)

    def search_known(
        self, rows: Slots, wanted: npt.NDArray[np.bool_], open_to: npt.NDArray[np.bool_]
    ) -> EngineMatches:
        """As `search`, for tracks whose lists are nearly complete and name no withdrawn track.

        Only tracks that beat the last entry of a list need ranking, so the catalogue is read once, in tiles whose product fits
        the cache.
        """
        if self._kernels is None:
            return self._search(rows, wanted, open_to)
        lists, kernels, used = self._lists, self._kernels, self._catalogue.used
        matrix, error = self._matrix()
        tracks = self._tracks()
        bounds, slots = self._bounds(open_to, error), np.arange(used, dtype=np.int32)

        def run(part: slice, best: Slots, scores: Scores) -> tuple[Slots, Slots, Scores, int]:
            mine, others, found = matrix[rows[part]], ~wanted[part], []
            best[:], scores[:] = lists.slots[lists.row_of[rows[part]]], lists.scores[lists.row_of[rows[part]]]
            # Nothing is better than these.
            best[others], scores[others] = 0, np.inf
            for start in range(0, used, TILE):
                tile = slice(start, min(start + TILE, used))
                found.append(
                    kernels.search_among(
                        self._product_of(mine, matrix[tile]),
                        rows[part],
                        slots[tile],
                        tracks,
                        EntryLimits(bounds[tile], lists.horizon, error),
                        best,
                        scores,
                        GROUPS_PER_ENTRY * lists.kept,
                    )
                )
            best[others], scores[others] = EMPTY, -np.inf
            row, targets, entries = (np.concatenate([one[i] for one in found]) for i in range(3))
            ranks = np.argsort(row, kind="stable")
            return row[ranks], targets[ranks], entries[ranks], sum(one[3] for one in found)

        return self._shared(len(rows), run)

    def rank(self, rows: Slots, candidates: Slots) -> tuple[Slots, Scores]:
        """The lists of some tracks from candidates, int32 (m, kept), and their scores; past the end `EMPTY` and -inf.

        Args:
            rows: int32 (m,), their slots.
            candidates: int32 (m, w), none twice; `EMPTY` where there is none.
        """
        row, place = np.nonzero(candidates != EMPTY)
        others, vectors = candidates[row, place], self._catalogue.vectors
        if self._kernels is not None:
            exact = self._kernels.similarities(vectors, rows[row], others)
        else:
            ends = np.flatnonzero(np.diff(row)) + 1
            each = zip(rows[np.unique(row)].tolist(), np.split(others, ends), strict=True)
            exact = np.concatenate([exact_similarity(vectors[slot], vectors[part]) for slot, part in each])
        self.computed += len(exact)
        return self._best(len(rows), row.astype(np.int32), others, exact)

    def _tracks(self) -> TrackArrays:
        return TrackArrays(self._catalogue.vectors, self._catalogue.alive, self._catalogue.id_labels)

    def _matrix(self) -> tuple[Vectors, np.float32]:
        """What to multiply, float32 (slots, c), and how far a product may lie below the similarity."""
        if self.projection.ready:
            return self.projection.reduced, self.projection.error
        return self._catalogue.vectors, self._error

    def _shared(
        self,
        count: int,
        run: Callable[[slice, Slots, Scores], tuple[Slots, Slots, Scores, int]],
        shares: list[slice] | None = None,
    ) -> EngineMatches:
        """Share rows out among the threads, evenly if it isn't said how, and put together what they find."""
        assert self._threads is not None
        best = np.full((count, self._lists.kept), EMPTY, dtype=np.int32)
        scores = np.full(best.shape, -np.inf, dtype=np.float32)
        if shares is None:
            # Small parts: a product is gone through while it is in the cache.
            size = min(THREAD_ROWS, max(1, -(-count // self._thread_count)))
            shares = [slice(start, start + size) for start in range(0, count, size)]

        def one(part: slice) -> tuple[Slots, Slots, Scores, int]:
            row, targets, entries, computed = run(part, best[part], scores[part])
            return row + np.int32(part.start), targets, entries, computed

        with self._timed("search"):
            parts = [one(shares[0])] if len(shares) == 1 else list(self._threads.map(one, shares))
            row, targets, entries = (np.concatenate([part[i] for part in parts]) for i in range(3))
        self._last_computed = sum(part[3] for part in parts)
        self.computed += self._last_computed
        return EngineMatches(best, scores, row, targets, entries)

    def _search(
        self, rows: Slots, wanted: npt.NDArray[np.bool_], open_to: npt.NDArray[np.bool_] | None
    ) -> EngineMatches:
        with self._timed("product"):
            product = self._product(rows)
        bounds = self._bounds(open_to, self._error)
        with self._timed("select"):
            own_bounds = np.full(len(rows), UNKNOWN, dtype=np.float32)
            own_bounds[wanted] = self._own_bounds(product if wanted.all() else product[wanted])
            found = self._select(product, own_bounds, None if open_to is None else bounds)
            row = np.repeat(np.arange(len(rows), dtype=np.int32), [len(candidates) for candidates in found])
            candidates = np.concatenate(found).astype(np.int32)
            rough = product[row, candidates]
        with self._timed("similarity"):
            vectors = self._catalogue.vectors
            exact = np.concatenate(
                [exact_similarity(vectors[slot], vectors[c]) for slot, c in zip(rows, found, strict=True)]
            )
        self.computed += len(exact)
        with self._timed("lists"):
            own = rough >= own_bounds[row]
            best, scores = self._best(len(rows), row[own], candidates[own], exact[own])
        enters = (rough >= bounds[candidates]) & (exact >= self._lists.horizon[candidates])
        return EngineMatches(best, scores, row[enters], candidates[enters], exact[enters])

    def _product(self, rows: Slots) -> Scores:
        """Approximate similarities of some tracks to all slots, float32 (m, used); -inf where there is none."""
        used = self._catalogue.used
        product: Scores = self._catalogue.vectors[rows] @ self._catalogue.vectors[:used].T
        product[:, self._catalogue.dead()] = -np.inf
        product[np.arange(len(rows)), rows] = -np.inf
        return product

    def _own_bounds(self, product: Scores) -> Scores:
        """A value for each row that its best `kept` entries surely reach, float32 (m,)."""
        kept = self._lists.kept
        if len(self._catalogue) - 1 <= kept:
            return np.full(len(product), np.finfo(np.float32).min)
        highest = group_maxima(product, GROUPS_PER_ENTRY * kept)
        place = highest.shape[1] - kept
        kth: Scores = np.partition(highest, place, axis=1)[:, place]
        bounds: Scores = np.maximum(kth - 2 * self._error, np.finfo(np.float32).min)
        return bounds

    @staticmethod
    def _select(product: Scores, own_bounds: Scores, bounds: Scores | None) -> list[npt.NDArray[np.intp]]:
        """For each row the slots that reach its own bound, or whose list the row's track may enter."""
        if bounds is None:
            return [np.flatnonzero(row >= bound) for row, bound in zip(product, own_bounds, strict=True)]
        # A row at a time: what is compared stays in the processor's cache.
        lower, near = np.empty_like(bounds), np.empty(len(bounds), dtype=np.bool_)
        found = []
        for row, bound in zip(product, own_bounds, strict=True):
            np.minimum(bounds, bound, out=lower)
            np.greater_equal(row, lower, out=near)
            found.append(np.flatnonzero(near))
        return found

    def _best(self, rows: int, row: Slots, candidates: Slots, scores: Scores) -> tuple[Slots, Scores]:
        """Whole lists, int32 (m, kept), and their scores; past the end of a list `EMPTY` and -inf."""
        ranks = order_within(row, scores, self._catalogue.id_labels[candidates])
        row = row[ranks]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        first = place < self._lists.kept
        ranks, row, place = ranks[first], row[first], place[first]
        best = np.full((rows, self._lists.kept), EMPTY, dtype=np.int32)
        their_scores = np.full(best.shape, -np.inf, dtype=np.float32)
        best[row, place], their_scores[row, place] = candidates[ranks], scores[ranks]
        return best, their_scores

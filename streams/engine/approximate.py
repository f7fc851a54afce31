"""The engine for large catalogues, where a newcomer is not compared with all tracks at once.

Up to a given size it is the exact engine. Beyond, a newcomer is compared with the tracks of the nearest cells, and with those on
the lists of the nearest tracks found there: few tracks, but nearly all that matter. Horizons are respected, so no list ever
names a track that ranks below its horizon. The newcomer then is *pending*: unverified. In idle time pending tracks are compared
with the whole catalogue, as the exact engine does at once. When none is left, the lists equal those of the exact engine; tests
check it.

If thousands of lists are missing, because the catalogue was loaded without lists or is being filled, they are computed cell by
cell, at a fifth of the cost of single newcomers.
"""

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streams.engine import inverted_file
from streams.engine.exact import ExactEngine
from streams.engine.lists import UNKNOWN
from streams.engine.nearest import EngineMatches
from streams.engine.types import (
    EngineStats,
    Events,
    Keys,
    Scores,
    Slots,
    StoredLists,
    TrackBatch,
    Vectors,
)

Rows = npt.NDArray[np.intp]

# Up to so many tracks a batch is compared with all of them.
EXACT_UPTO = 200_000
# With more missing lists than this, the lists of a cell are computed together.
MANY = 2_048
# The share of these, those least similar to the rest of their cell, that are then searched one by one, as newcomers are.
STRAYS = 1 / 16
# Minimum batch sizes: lists computed together, strays searched, and tracks compared with all. The data that is read for a
# batch is read once for all of it.
LEAST_MADE = 256
STRAYS_AT_ONCE = 64, 256
LEAST_COMPARED = 16
# Seconds of one slice of building cells.
MAKING_SECONDS = 0.02
# A large catalogue counts as being filled if it would double within so long, measured over the second time.
DOUBLING_SECONDS = 3_600.0
WINDOW_SECONDS = 5.0
# Any catalogue counts as being filled from so many waiting events on, at least this share of it, until only so many wait.
FILLING_EVENTS = 20_000
FILLING_SHARE = 1 / 4
FILLED_EVENTS = 1_000
# After such a pause the filling has ended.
PAUSE_SECONDS = 2.0


class InflowEstimate:
    """Estimates the inflow of tracks, and whether a catalogue is being filled: then lists are computed after the inflow."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._count = 0
        self._rate = 0.0
        self._is_behind = False

    def note(self, count: int, behind: int, tracks: int) -> None:
        """Record an inflow of `count` tracks to a catalogue of `tracks`, with `behind` events waiting."""
        self._last = now = time.monotonic()
        self._count += count
        if now - self._began >= WINDOW_SECONDS:
            self._rate, self._began, self._count = self._count / (now - self._began), now, 0
        least = FILLED_EVENTS if self._is_behind else max(FILLING_EVENTS, FILLING_SHARE * tracks)
        self._is_behind = behind >= least

    def fills(self, tracks: int, *, large: bool) -> bool:
        """Whether a catalogue of so many tracks is being filled."""
        if time.monotonic() - self._last >= PAUSE_SECONDS:
            return False
        return self._is_behind or (large and self._rate * DOUBLING_SECONDS > tracks)


class ApproximateEngine(ExactEngine):
    """A `NeighbourEngine` that is exact at once up to a size, and exact in the end beyond it.

    Args:
        dimension: d of the vectors.
        published: Length of the published part of a list.
        kept: Length of a kept list.
        exact_upto: The size up to which newcomers are compared with the whole catalogue at once.
    """

    def __init__(
        self, dimension: int, *, published: int = 50, kept: int = 100, exact_upto: int = EXACT_UPTO
    ) -> None:
        super().__init__(dimension, published=published, kept=kept)
        self.exact_upto = exact_upto
        self.flow = InflowEstimate()
        self._new: Slots = np.empty(0, dtype=np.int32)
        # Lists that are to be computed cell by cell, and which lists were known before.
        self._unmade: Slots = np.empty(0, dtype=np.int32)
        self._known: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        # Those of them that have been made, and how close each is to its cell's centre; then those to be looked at again.
        self._made: list[tuple[Slots, Scores]] = []
        self._strays: Slots = np.empty(0, dtype=np.int32)

    @property
    def _is_large(self) -> bool:
        return len(self.catalogue) > self.exact_upto and self.nearest.is_compiled

    @property
    def _is_being_filled(self) -> bool:
        return self.flow.fills(len(self.catalogue), large=self._is_large)

    def _load_lists(self, lists: StoredLists, without: Slots) -> Slots:
        loaded = super()._load_lists(lists, without)
        if len(self.catalogue) > self.exact_upto // 2:
            # The store does not record which tracks were compared with all others.
            self.lists.pending[loaded] = True
        return loaded

    def apply(self, batch: TrackBatch) -> None:
        """See `NeighbourEngine.apply`."""
        self._new = np.empty(0, dtype=np.int32)
        # Up to that size one product serves a newcomer's own list and all lists that it enters; later lists cost three times.
        behind = batch.behind if len(self.catalogue) + batch.behind > self.exact_upto else 0
        self.flow.note(len(batch.keys), behind, len(self.catalogue))
        super().apply(batch)

    def _add(self, keys: Keys, track_ids: list[str], vectors: Vectors, events: Events) -> Slots:
        self._new = super()._add(keys, track_ids, vectors, events)
        return self._new

    def _fill(self, newcomers: Slots, which: Rows, events: Events, refills: Slots) -> None:
        if len(newcomers) and self._is_being_filled:
            # Their lists, and those that they enter, are computed after the inflow: before, each would change repeatedly.
            later = np.isin(newcomers, self._new)
            self.lists.pending[newcomers[later]] = True
            self.lists.touched[newcomers[later]] = True
            newcomers, which = newcomers[~later], which[~later]
        super()._fill(newcomers, which, events, refills)

    def _most_urgent(self, limit: int, but_not: Slots) -> Slots:
        lists, used = self.lists, self.catalogue.used
        short = lists.short(self.catalogue.alive[:used], lists.published)
        if len(short) >= MANY:
            # Unknown lists are computed together, in idle time.
            short = short[lists.horizon[short] != UNKNOWN]
        return np.setdiff1d(short, but_not)[:limit].astype(np.int32)

    def _find(
        self, rows: Slots, own: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_] | None
    ) -> EngineMatches:
        lists = self.lists
        # A refill of a list that is known replaces what is right by what is right.
        wanted = others is not None or (lists.horizon[rows] == UNKNOWN).all()
        if wanted and self._is_large and self.nearest.look_near(MAKING_SECONDS):
            lists.pending[rows] = lists.touched[rows] = True
            return self.nearest.search_near(rows, others)
        if others is not None:
            lists.pending[rows] = False
        return super()._find(rows, own, others)

    def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`. Unknown lists come first, then short ones, then pending tracks."""
        if self._is_being_filled:
            return 0
        if self._is_large and not self.nearest.look_near(MAKING_SECONDS):
            return 1 + len(self._missing())
        waiting = self._make_unknown(limit)
        if waiting:
            return waiting
        # One product at most: those made from cells before cost a fraction. And where a product goes through vectors that no
        # cache holds, so many rows that these are not fetched for one or two.
        limit = min(max(limit, LEAST_COMPARED if self._is_large else 1), self.nearest.step)
        missing = self._missing()
        missing = missing[self.lists.pending[missing]]
        if len(missing) and not self._is_large:
            self._compare(missing[:limit])
            return max(1, len(missing) - limit)
        waiting = super().refill(limit)
        pending = np.flatnonzero(self.lists.pending[: self.catalogue.used])
        if waiting or not len(pending):
            return waiting
        self._compare(pending[:limit].astype(np.int32))
        return max(0, len(pending) - limit)

    def _missing(self) -> Slots:
        """Slots whose list is unknown."""
        unknown = self.lists.short(self.catalogue.alive[: self.catalogue.used], 1).astype(np.int32)
        missing: Slots = unknown[self.lists.horizon[unknown] == UNKNOWN]
        return missing

    def _make_unknown(self, limit: int) -> int:
        """Compute missing lists of a large catalogue; returns how many are left."""
        if not len(self._unmade) and not len(self._strays):
            self._begin_making()
        if len(self._unmade):
            end = self._end_of_cell(max(limit, LEAST_MADE))
            rows, self._unmade = self._unmade[:end], self._unmade[end:]
            self._make(self._still_there(rows))
            if not len(self._unmade):
                self._strays = self._farthest()
        elif len(self._strays):
            # One by one, each in its own nearest cells.
            end = min(max(limit, STRAYS_AT_ONCE[0]), STRAYS_AT_ONCE[1])
            rows, self._strays = self._strays[:end], self._strays[end:]
            rows = self._still_there(rows)
            if len(rows):
                self._put(rows, self.nearest.search_near(rows, None))
        return len(self._unmade) + len(self._strays)

    def _end_of_cell(self, count: int) -> int:
        """The end of a batch of at least so many missing lists, at a cell's end: a whole cell costs little more than one list."""
        assert self.nearest.cells is not None
        following = self.nearest.cells.of(self._unmade[count - 1 : count + inverted_file.ROOM])
        return count + int((following[1:] == following[:1]).cumprod().sum())

    def _begin_making(self) -> None:
        lists, alive, where = self.lists, self.catalogue.alive, self.nearest.cells
        unknown = self._missing() if self._is_large and where is not None else self._unmade
        if len(unknown) < MANY or where is None:
            return
        self._known = alive & lists.owned & (lists.horizon != UNKNOWN)
        if len(unknown) > self._known.sum():
            # If most lists are missing, the known ones are improved, too.
            unknown = np.flatnonzero(alive & lists.owned).astype(np.int32)
        self._unmade = unknown[where.order(unknown)]

    def _still_there(self, rows: Slots) -> Slots:
        return rows[self.catalogue.alive[rows] & self.lists.owned[rows]]

    def _make(self, rows: Slots) -> None:
        """Compute or improve lists from the nearest cells, and enter these tracks into the lists known before."""
        if not len(rows):
            return
        self.nearest.prepare()
        catalogue = self.catalogue
        if len(self._known) < catalogue.capacity:
            more = np.zeros(catalogue.capacity - len(self._known), dtype=np.bool_)
            self._known = np.concatenate([self._known, more])
        found = self.nearest.search_cells(rows, self._known)
        self._put(rows, found)
        self._enter(found, rows, np.arange(len(rows)), catalogue.events[rows])
        assert self.nearest.cells is not None
        self._made.append((rows, self.nearest.cells.closeness(catalogue.vectors, rows)))

    def _farthest(self) -> Slots:
        """Of the computed lists, those whose track is least similar to its cell: their neighbours may be elsewhere."""
        if not self._made:
            return self._unmade
        rows, closeness = (np.concatenate([made[i] for made in self._made]) for i in range(2))
        self._made = []
        farthest: Slots = rows[np.sort(np.argsort(closeness)[: int(STRAYS * len(rows))])]
        return farthest

    def _put(self, rows: Slots, found: EngineMatches) -> None:
        with self._timed("lists"):
            differs = self.lists.put(rows, found.best, found.scores, self.catalogue, complete=False)
            self.lists.changed[rows] |= differs
            self.lists.pending[rows] = True

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
            unknown = bool((lists.horizon[part] == UNKNOWN).any())
            search = self.nearest.search if unknown else self.nearest.search_known
            found = search(part, own, others)
            complete = len(catalogue) - 1 <= lists.kept
            differs = lists.put(part[own], found.best[own], found.scores[own], catalogue, complete=complete)
            lists.changed[part[own]] |= differs
            self._enter(found, part, np.arange(start, start + len(part)), events)
            lists.pending[part] = False
            # Those that come later in this very call were compared with nobody's list of these.
            others[part] = True

    def stats(self) -> EngineStats:
        """See `NeighbourEngine.stats`."""
        found = super().stats()
        return replace(
            found,
            waiting_refills=max(found.waiting_refills, len(self._unmade) + len(self._strays)),
            unverified=int(self.lists.pending[: self.catalogue.used].sum()),
        )

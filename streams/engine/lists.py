"""The neighbour lists, as arrays, and the insertion and removal of entries.

Each list keeps up to `kept` neighbours, of which the first `published` are published. Its *horizon* is a place in the order of all
tracks (a similarity and, for ties, a track id): every track that ranks at or above it is in the list. So a newcomer above the
horizon enters. When the list overflows, its last entry becomes the horizon. A withdrawal shortens the list and leaves the
horizon; the rest of the list stays right.

What every track has is kept by slot, what only a known list has by row: a worker that owns an eighth of the lists holds an
eighth of the entries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.engine.acceleration import Kernels
from streams.engine.catalogue import Catalogue, enlarge_rows
from streams.engine.similarity import order_within
from streams.engine.types import EMPTY, EVENT, Events, Scores, Slots

# The horizons of an unknown list, and of one that holds all tracks.
UNKNOWN = np.float32(np.inf)
COMPLETE = np.float32(-np.inf)

# Lists that are searched for removed tracks at a time: bounds the scratch memory.
SCAN_ROWS = 16_384
# Lists that are merged at a time: the moved data stays in the processor's cache.
MERGE_ROWS = 1_024
# Rows are added by this share of them, and given back when this share is free.
ROW_GROWTH = 1 / 8


class NeighbourLists:
    """Lists by slot.

    Attributes:
        row_of: int32 (capacity,), the row of a slot's list; 0, whose list is empty, where it is not known.
        slots: int32 (rows, kept), by row, the neighbours; past the end of a list `EMPTY`.
        scores: float32 (rows, kept), by row; past the end of a list -inf.
        at_last: bool (rows,), by row, where the horizon is the last entry of a full list.
        horizon_id: By row, the id of the horizon's track where it is not.
        events: `EVENT` (rows,), by row, what changed the list last.
        lengths: int16 (capacity,), by slot.
        horizon: float32 (capacity,), by slot.
        changed: bool (capacity,), by slot: the published part has changed since it was taken.
        owned: bool (capacity,), by slot: whose lists are kept here; the others' are unknown, under a horizon that nothing
            reaches.
        pending: bool (capacity,), by slot: tracks that have not been compared with the whole catalogue yet; their lists, and
            others that they belong in, may lack something.
        touched: bool (capacity,), by slot: anything has changed, the unpublished part included, since whoever wants to know
            cleared it.
    """

    def __init__(self, published: int, kept: int, capacity: int) -> None:
        self.published = published
        self.kept = kept
        self.row_of: Slots = np.zeros(capacity, dtype=np.int32)
        self.slots: Slots = np.full((1, kept), EMPTY, dtype=np.int32)
        self.scores: Scores = np.full((1, kept), -np.inf, dtype=np.float32)
        self.at_last: npt.NDArray[np.bool_] = np.zeros(1, dtype=np.bool_)
        self.horizon_id: npt.NDArray[Any] = np.full(1, None, dtype=object)
        self.events: Events = np.zeros(1, dtype=EVENT)
        self.lengths: npt.NDArray[np.int16] = np.zeros(capacity, dtype=np.int16)
        self.horizon: Scores = np.full(capacity, UNKNOWN, dtype=np.float32)
        self.changed: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.owned: npt.NDArray[np.bool_] = np.ones(capacity, dtype=np.bool_)
        self.pending: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.touched: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self._used = 1
        self._free: Slots = np.empty(0, dtype=np.int32)
        self._kernels: Kernels | None = None

    def accelerate(self, kernels: Kernels) -> None:
        """Use the compiled loops from now on."""
        self._kernels = kernels

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        self.row_of = enlarge_rows(self.row_of, capacity, 0)
        self.lengths = enlarge_rows(self.lengths, capacity, 0)
        self.horizon = enlarge_rows(self.horizon, capacity, UNKNOWN)
        self.changed = enlarge_rows(self.changed, capacity, False)
        self.owned = enlarge_rows(self.owned, capacity, True)
        self.pending = enlarge_rows(self.pending, capacity, False)
        self.touched = enlarge_rows(self.touched, capacity, False)

    def hold(self, slots: Slots) -> Slots:
        """The rows, int32 (m,), of these slots' lists; those that had none get one, whose content is undefined."""
        without = slots[self.row_of[slots] == 0]
        reused = min(len(without), len(self._free))
        fresh = len(without) - reused
        if self._used + fresh > len(self.slots):
            self._resize_rows(
                max(self._used + fresh, len(self.slots) + max(1024, int(ROW_GROWTH * len(self.slots))))
            )
        self.row_of[without[:reused]] = self._free[len(self._free) - reused :]
        self._free = self._free[: len(self._free) - reused]
        self.row_of[without[reused:]] = np.arange(self._used, self._used + fresh, dtype=np.int32)
        self._used += fresh
        rows: Slots = self.row_of[slots]
        return rows

    def compact(self) -> None:
        """Give back the memory of rows that are not in use, if that is a share worth it. Call it after `forget`."""
        if len(self._free) < ROW_GROWTH * self._used:
            return
        slots = np.flatnonzero(self.row_of)
        slots = slots[np.argsort(self.row_of[slots])]
        for start in range(0, len(slots), SCAN_ROWS):
            part = slots[start : start + SCAN_ROWS]
            before, after = self.row_of[part], np.arange(start + 1, start + 1 + len(part), dtype=np.int32)
            # A row only moves towards the beginning, to where no row lies that is still to be moved.
            for array in (self.slots, self.scores, self.at_last, self.horizon_id, self.events):
                array[after] = array[before]
            self.row_of[part] = after
        self._used = len(slots) + 1
        self._free = np.empty(0, dtype=np.int32)
        self.horizon_id[self._used :] = None
        self._resize_rows(self._used)

    def _resize_rows(self, count: int) -> None:
        self.slots = enlarge_rows(self.slots, count, EMPTY)
        self.scores = enlarge_rows(self.scores, count, -np.inf)
        self.at_last = enlarge_rows(self.at_last, count, False)
        self.horizon_id = enlarge_rows(self.horizon_id, count, None)
        self.events = enlarge_rows(self.events, count, np.zeros((), dtype=EVENT))

    def clear(self, slots: Slots) -> None:
        """Forget the lists of these slots."""
        rows = np.unique(self.row_of[slots])
        held = rows[rows > 0]
        self.horizon_id[held] = None
        self._free = np.concatenate([self._free, held])
        self.row_of[slots] = 0
        self.lengths[slots] = 0
        self.horizon[slots] = UNKNOWN
        self.touched[slots] = True

    def forget(self, slots: Slots) -> None:
        """Forget the lists of these slots and that there ever were any."""
        self.clear(slots)
        self.changed[slots] = False

    def mark(self, slots: Slots, events: Events) -> None:
        """Say that the published part of these lists has changed, and which event did it."""
        self.changed[slots] = True
        self.events[self.row_of[slots]] = events
        self.touched[slots] = True

    def short(self, alive: npt.NDArray[np.bool_], below: int) -> npt.NDArray[np.intp]:
        """Slots whose list is kept here and has fewer than `below` entries though there is more to know."""
        used = len(alive)
        return np.flatnonzero(
            alive & self.owned[:used] & (self.lengths[:used] < below) & (self.horizon[:used] > COMPLETE)
        )

    def put(
        self,
        rows: Slots,
        slots: Slots,
        scores: Scores,
        catalogue: Catalogue,
        *,
        complete: bool,
    ) -> npt.NDArray[np.bool_]:
        """Replace lists by the best of all tracks, in order.

        Args:
            rows: int32 (m,), whose lists, each once.
            slots: int32 (m, w), w at most `kept`; past the end of a list `EMPTY`.
            scores: float32 (m, w); past the end of a list -inf.
            catalogue: Of the tracks.
            complete: Whether these lists hold every other track there is.

        Returns:
            Which lists' published part is another now, or known for the first time, bool (m,).
        """
        width, first = slots.shape[1], self.published
        at = self.row_of[rows]
        before = self.slots[at, :first], self.scores[at, :first]
        unknown = self.horizon[rows] == UNKNOWN
        lengths = (slots >= 0).sum(axis=1)
        new, at = at == 0, self.hold(rows)
        self.events[at[new]] = catalogue.events[rows[new]]
        self.slots[at, :width], self.slots[at, width:] = slots, EMPTY
        self.scores[at, :width], self.scores[at, width:] = scores, -np.inf
        self.lengths[rows] = lengths
        self.touched[rows] = True
        self.at_last[at] = ~np.bool_(complete) & (lengths == self.kept)
        self.horizon_id[at] = None
        if complete:
            self.horizon[rows] = COMPLETE
        else:
            last = np.arange(len(rows)), lengths - 1
            self.horizon[rows] = scores[last]
            short = np.flatnonzero(lengths < self.kept)
            self.horizon_id[at[short]] = [catalogue.track_ids[slot] for slot in slots[last][short].tolist()]
        differs = (before[0] != self.slots[at, :first]) | (before[1] != self.scores[at, :first])
        return np.asarray(unknown | differs.any(axis=1))

    def remove(self, gone: Slots, events: Events, used: int, track_ids: Sequence[str | None]) -> None:
        """Take tracks out of every list that names them.

        Args:
            gone: int32 (m,), their slots.
            events: `EVENT` (m,), why each has gone.
            used: How many slots to look through.
            track_ids: By slot, those of `gone` too.
        """
        which = np.full(len(self.lengths) + 1, EMPTY, dtype=np.int32)  # the last place is where EMPTY points
        which[gone] = np.arange(len(gone))
        if self._kernels is not None:
            rows, latest, published, last = self._kernels.remove(
                which, self.row_of, self.slots, self.scores, self.lengths, used, self.published
            )
            self._keep_horizons(rows, last, track_ids)
            self.touched[rows] = True
            self.mark(rows[published], events[latest[published]])
            return
        listed = np.flatnonzero(self.row_of[:used]).astype(np.int32)
        for start in range(0, len(listed), SCAN_ROWS):
            part = listed[start : start + SCAN_ROWS]
            hits = which[self.slots[self.row_of[part]]]
            rows = np.flatnonzero((hits >= 0).any(axis=1))
            if len(rows):
                near = part[rows]
                last = self.slots[self.row_of[near], self.lengths[near] - 1]
                self._keep_horizons(near, last, track_ids)
                self._close_gaps(near, hits[rows], events)

    def _keep_horizons(self, rows: Slots, last: Slots, track_ids: Sequence[str | None]) -> None:
        """Note the ids of horizons that were the last entries, `last` (m,), of lists that aren't full any more."""
        at = self.row_of[rows]
        at_last = self.at_last[at]
        self.horizon_id[at[at_last]] = [track_ids[slot] for slot in last[at_last].tolist()]
        self.at_last[at] = False

    def _close_gaps(self, rows: Slots, hits: Slots, events: Events) -> None:
        leaving, at = hits >= 0, self.row_of[rows]
        stays = ~leaving & (self.slots[at] >= 0)
        ranks = np.argsort(~stays, axis=1, kind="stable")
        lengths = stays.sum(axis=1)
        unused = np.arange(self.kept)[None, :] >= lengths[:, None]
        slots = np.take_along_axis(self.slots[at], ranks, axis=1)
        scores = np.take_along_axis(self.scores[at], ranks, axis=1)
        slots[unused] = EMPTY
        scores[unused] = -np.inf
        self.slots[at], self.scores[at], self.lengths[rows] = slots, scores, lengths
        self.touched[rows] = True
        published = leaving[:, : self.published].any(axis=1)
        latest = hits.max(axis=1)
        self.mark(rows[published], events[latest[published]])

    def admits(
        self, targets: Slots, scores: Scores, newcomers: Slots, track_ids: Sequence[str | None]
    ) -> npt.NDArray[np.bool_]:
        """Which newcomers, (m,), rank above the horizon of their target list, (m,)."""
        horizon = self.horizon[targets]
        above: npt.NDArray[np.bool_] = scores > horizon
        for i in np.flatnonzero(scores == horizon).tolist():
            row = self.row_of[targets[i]]
            track_id, bound = track_ids[newcomers[i]], self.horizon_id[row]
            if self.at_last[row]:
                bound = track_ids[self.slots[row, self.kept - 1]]
            above[i] = track_id is not None and bound is not None and track_id < bound
        return above

    def merge(
        self,
        targets: Slots,
        newcomers: Slots,
        scores: Scores,
        which: Slots,
        events: Events,
        catalogue: Catalogue,
    ) -> None:
        """Enter newcomers, all above the horizon, into their target lists; one that is there already stays as it is.

        Args:
            targets: int32 (m,), whose list each entry goes to; may repeat.
            newcomers: int32 (m,), the slot to enter.
            scores: float32 (m,).
            which: int32 (m,), the index in `events` of the event behind each entry, ascending.
            events: `EVENT`.
            catalogue: For ties, the order of ids.
        """
        self.touched[targets] = True
        if self._kernels is not None:
            entered = self._kernels.merge(
                targets,
                newcomers,
                scores,
                self.row_of,
                self.slots,
                self.scores,
                self.lengths,
                self.horizon,
                self.at_last,
                catalogue.id_labels,
                self.published,
            )
            # Entries come in the order of the events, so that the latest one counts.
            self.mark(targets[entered], events[which[entered]])
            return
        new = ~(self.slots[self.row_of[targets]] == newcomers[:, None]).any(axis=1)
        targets, newcomers, scores, which = targets[new], newcomers[new], scores[new], which[new]
        if not len(targets):
            return
        ranks = order_within(targets, scores, catalogue.id_labels[newcomers])
        newcomers, scores, which = newcomers[ranks], scores[ranks], which[ranks]
        rows, starts, counts = np.unique(targets[ranks], return_index=True, return_counts=True)
        # Those that gain most come first: in the n-th round it is a slice of the rows that gains an n-th entry.
        by_gain = np.argsort(-counts, kind="stable")
        for start in range(0, len(rows), MERGE_ROWS):
            part = by_gain[start : start + MERGE_ROWS]
            entered = self._merge_rows(
                rows[part], starts[part], counts[part], newcomers, scores, catalogue.id_labels
            )
            totals = self.lengths[rows[part]] + counts[part]
            self.lengths[rows[part]] = np.minimum(totals, self.kept)
            self._raise_horizons(rows[part][totals > self.kept])
            self._mark_entered(rows[part], starts[part], counts[part], entered, which, events)

    def _merge_rows(
        self,
        rows: Slots,
        starts: npt.NDArray[np.intp],
        counts: npt.NDArray[np.intp],
        newcomers: Slots,
        scores: Scores,
        labels: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.intp]:
        """Insert into each row its newcomers, best first; how many of them enter the published part, (m,)."""
        at = self.row_of[rows]
        old_slots, old_scores = self.slots[at], self.scores[at]
        entered = np.zeros(len(rows), dtype=np.intp)
        for turn in range(int(counts[0])):
            gaining = int(np.searchsorted(-counts, -turn, side="left"))
            slots, kept_scores = old_slots[:gaining], old_scores[:gaining]
            which = starts[:gaining] + turn
            behind, place = self._places(slots, kept_scores, newcomers[which], scores[which], labels)
            entered[:gaining] += place < self.published
            # A masked copy moves the run behind the place in one go.
            np.copyto(slots[:, 1:], slots[:, :-1], where=behind[:, :-1])
            np.copyto(kept_scores[:, 1:], kept_scores[:, :-1], where=behind[:, :-1])
            fits = np.flatnonzero(place < self.kept)
            slots[fits, place[fits]] = newcomers[which[fits]]
            kept_scores[fits, place[fits]] = scores[which[fits]]
        self.slots[at], self.scores[at] = old_slots, old_scores
        return entered

    def _places(
        self,
        slots: Slots,
        kept_scores: Scores,
        newcomers: Slots,
        scores: Scores,
        labels: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """Where in its row a newcomer belongs: which entries it goes before, (m, kept), and its place, (m,)."""
        behind = kept_scores <= scores[:, None]
        place = behind.argmax(axis=1)
        place[~behind[:, -1]] = self.kept
        at = np.minimum(place, self.kept - 1)
        tied = np.flatnonzero(kept_scores[np.arange(len(at)), at] == scores)
        if len(tied):
            same = kept_scores[tied] == scores[tied, None]
            place[tied] += (same & (labels[slots[tied]] < labels[newcomers[tied], None])).sum(axis=1)
            behind[tied] = np.arange(self.kept) >= place[tied, None]
        return behind, place

    def _mark_entered(
        self,
        rows: Slots,
        starts: npt.NDArray[np.intp],
        counts: npt.NDArray[np.intp],
        entered: npt.NDArray[np.intp],
        which: Slots,
        events: Events,
    ) -> None:
        """Mark the rows whose published part has changed, with the latest event that changed it."""
        changed = np.flatnonzero(entered)
        # The newcomers of a row stand best first, so that those that are published are its first ones.
        first = np.cumsum(entered[changed]) - entered[changed]
        index = np.arange(int(entered.sum())) + np.repeat(starts[changed] - first, entered[changed])
        if len(changed):
            self.mark(rows[changed], events[np.maximum.reduceat(which[index], first)])

    def _raise_horizons(self, rows: Slots) -> None:
        """An overflowing list is complete down to its last entry, and no further."""
        at = self.row_of[rows]
        self.horizon[rows] = self.scores[at, self.kept - 1]
        self.at_last[at] = True

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (
            self.row_of,
            self.slots,
            self.scores,
            self.lengths,
            self.horizon,
            self.horizon_id,
            self.events,
            self.at_last,
            self.pending,
            self.touched,
        )
        return sum(array.nbytes for array in arrays)

"""The neighbour lists, as arrays by slot, and the insertion and removal of entries.

Each list keeps up to `kept` neighbours, of which the first `published` are published. Its *horizon* is a place in the order of all
tracks (a similarity and, for ties, a track id): every track that ranks at or above it is in the list. So a newcomer above the
horizon enters. When the list overflows, its last entry becomes the horizon. A withdrawal shortens the list and leaves the
horizon; the rest of the list stays right.
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


class NeighbourLists:
    """Lists by slot."""

    def __init__(self, published: int, kept: int, capacity: int) -> None:
        self.published = published
        self.kept = kept
        self.slots: Slots = np.full((capacity, kept), EMPTY, dtype=np.int32)
        self.scores: Scores = np.full((capacity, kept), -np.inf, dtype=np.float32)
        self.lengths: npt.NDArray[np.int16] = np.zeros(capacity, dtype=np.int16)
        self.horizon: Scores = np.full(capacity, UNKNOWN, dtype=np.float32)
        # Where the horizon is the last entry of a full list, and the id of the horizon's track where it is not.
        self.at_last: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.horizon_id: npt.NDArray[Any] = np.full(capacity, None, dtype=object)
        self.changed: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.events: Events = np.zeros(capacity, dtype=EVENT)
        # Whose lists are kept here; the others' are empty, under a horizon that nothing reaches.
        self.owned: npt.NDArray[np.bool_] = np.ones(capacity, dtype=np.bool_)
        # Tracks that have not been compared with the whole catalogue yet: their lists, and others that they belong in,
        # may lack something.
        self.pending: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        # Lists of which anything has changed, the unpublished part included, since whoever wants to know cleared it.
        self.touched: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self._kernels: Kernels | None = None

    def accelerate(self, kernels: Kernels) -> None:
        """Use the compiled loops from now on."""
        self._kernels = kernels

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        self.slots = enlarge_rows(self.slots, capacity, EMPTY)
        self.scores = enlarge_rows(self.scores, capacity, -np.inf)
        self.lengths = enlarge_rows(self.lengths, capacity, 0)
        self.horizon = enlarge_rows(self.horizon, capacity, UNKNOWN)
        self.at_last = enlarge_rows(self.at_last, capacity, False)
        self.horizon_id = enlarge_rows(self.horizon_id, capacity, None)
        self.changed = enlarge_rows(self.changed, capacity, False)
        self.events = enlarge_rows(self.events, capacity, np.zeros((), dtype=EVENT))
        self.owned = enlarge_rows(self.owned, capacity, True)
        self.pending = enlarge_rows(self.pending, capacity, False)
        self.touched = enlarge_rows(self.touched, capacity, False)

    def clear(self, slots: Slots) -> None:
        """Forget the lists of these slots."""
        self.slots[slots] = EMPTY
        self.scores[slots] = -np.inf
        self.lengths[slots] = 0
        self.horizon[slots] = UNKNOWN
        self.at_last[slots] = False
        self.horizon_id[slots] = None
        self.touched[slots] = True

    def forget(self, slots: Slots) -> None:
        """Forget the lists of these slots and that there ever were any."""
        self.clear(slots)
        self.changed[slots] = False

    def mark(self, slots: Slots, events: Events) -> None:
        """Say that the published part of these lists has changed, and which event did it."""
        self.changed[slots] = True
        self.events[slots] = events
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
        track_ids: Sequence[str | None],
        *,
        complete: bool,
    ) -> npt.NDArray[np.bool_]:
        """Replace lists by the best of all tracks, in order.

        Args:
            rows: int32 (m,), whose lists.
            slots: int32 (m, w), w at most `kept`; past the end of a list `EMPTY`.
            scores: float32 (m, w); past the end of a list -inf.
            track_ids: By slot.
            complete: Whether these lists hold every other track there is.

        Returns:
            Which lists' published part is another now, or known for the first time, bool (m,).
        """
        width, first = slots.shape[1], self.published
        before = self.slots[rows, :first], self.scores[rows, :first]
        unknown = self.horizon[rows] == UNKNOWN
        lengths = (slots >= 0).sum(axis=1)
        self.slots[rows, :width], self.slots[rows, width:] = slots, EMPTY
        self.scores[rows, :width], self.scores[rows, width:] = scores, -np.inf
        self.lengths[rows] = lengths
        self.touched[rows] = True
        self.at_last[rows] = ~np.bool_(complete) & (lengths == self.kept)
        self.horizon_id[rows] = None
        if complete:
            self.horizon[rows] = COMPLETE
        else:
            last = np.arange(len(rows)), lengths - 1
            self.horizon[rows] = scores[last]
            short = np.flatnonzero(lengths < self.kept)
            self.horizon_id[rows[short]] = [track_ids[slot] for slot in slots[last][short].tolist()]
        differs = (before[0] != self.slots[rows, :first]) | (before[1] != self.scores[rows, :first])
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
                which, self.slots, self.scores, self.lengths, used, self.published
            )
            self._keep_horizons(rows, last, track_ids)
            self.touched[rows] = True
            self.mark(rows[published], events[latest[published]])
            return
        for start in range(0, used, SCAN_ROWS):
            hits = which[self.slots[start : min(start + SCAN_ROWS, used)]]
            rows = np.flatnonzero((hits >= 0).any(axis=1))
            if len(rows):
                near = (rows + start).astype(np.int32)
                self._keep_horizons(near, self.slots[near, self.lengths[near] - 1], track_ids)
                self._compact(near, hits[rows], events)

    def _keep_horizons(self, rows: Slots, last: Slots, track_ids: Sequence[str | None]) -> None:
        """Note the ids of horizons that were the last entries, `last` (m,), of lists that aren't full any more."""
        at_last = self.at_last[rows]
        self.horizon_id[rows[at_last]] = [track_ids[slot] for slot in last[at_last].tolist()]
        self.at_last[rows] = False

    def _compact(self, rows: Slots, hits: Slots, events: Events) -> None:
        leaving = hits >= 0
        stays = ~leaving & (self.slots[rows] >= 0)
        ranks = np.argsort(~stays, axis=1, kind="stable")
        lengths = stays.sum(axis=1)
        unused = np.arange(self.kept)[None, :] >= lengths[:, None]
        slots = np.take_along_axis(self.slots[rows], ranks, axis=1)
        scores = np.take_along_axis(self.scores[rows], ranks, axis=1)
        slots[unused] = EMPTY
        scores[unused] = -np.inf
        self.slots[rows], self.scores[rows], self.lengths[rows] = slots, scores, lengths
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
            track_id, bound = track_ids[newcomers[i]], self.horizon_id[targets[i]]
            if self.at_last[targets[i]]:
                bound = track_ids[self.slots[targets[i], self.kept - 1]]
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
        new = ~(self.slots[targets] == newcomers[:, None]).any(axis=1)
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
        old_slots, old_scores = self.slots[rows], self.scores[rows]
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
        self.slots[rows], self.scores[rows] = old_slots, old_scores
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
        self.horizon[rows] = self.scores[rows, self.kept - 1]
        self.at_last[rows] = True

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the arrays."""
        arrays = (
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

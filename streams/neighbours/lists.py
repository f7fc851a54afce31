"""The neighbour lists: arrays by slot, and how entries come and go.

Each list keeps up to `kept` neighbours, of which the first `published` are for the world. Its *horizon* is a place in
the order of all tracks (a similarity and, for ties, a track id): whatever ranks at or above it is in the list. So a
newcomer above the horizon enters; when the list overflows, its last entry becomes the horizon; a departure shortens the
list and leaves the horizon, and what is left is still right, only shorter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.neighbours.catalogue import Catalogue, enlarge
from streams.neighbours.similarity import order
from streams.neighbours.types import EMPTY, EVENT, Events, Scores, Slots

# Horizons where nothing, or everything, is known of the list.
UNKNOWN = np.float32(np.inf)
COMPLETE = np.float32(-np.inf)

# Entries merged into more lists than this at once are done in slices, to bound the scratch memory.
MERGE_ROWS = 16_384


class NeighbourLists:
    """Lists by slot."""

    def __init__(self, published: int, kept: int, capacity: int) -> None:
        self.published = published
        self.kept = kept
        self.slots: Slots = np.full((capacity, kept), EMPTY, dtype=np.int32)
        self.scores: Scores = np.full((capacity, kept), -np.inf, dtype=np.float32)
        self.lengths: npt.NDArray[np.int16] = np.zeros(capacity, dtype=np.int16)
        self.horizon: Scores = np.full(capacity, UNKNOWN, dtype=np.float32)
        self.horizon_id: npt.NDArray[Any] = np.full(capacity, None, dtype=object)
        self.changed: npt.NDArray[np.bool_] = np.zeros(capacity, dtype=np.bool_)
        self.events: Events = np.zeros(capacity, dtype=EVENT)
        # What was taken last, to tell what has come and gone since.
        self.taken: Slots = np.full((capacity, published), EMPTY, dtype=np.int32)

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        self.slots = enlarge(self.slots, capacity, EMPTY)
        self.scores = enlarge(self.scores, capacity, -np.inf)
        self.lengths = enlarge(self.lengths, capacity, 0)
        self.horizon = enlarge(self.horizon, capacity, UNKNOWN)
        self.horizon_id = enlarge(self.horizon_id, capacity, None)
        self.changed = enlarge(self.changed, capacity, False)
        self.events = enlarge(self.events, capacity, np.zeros((), dtype=EVENT))
        self.taken = enlarge(self.taken, capacity, EMPTY)

    def clear(self, slots: Slots) -> None:
        """Forget the lists of these slots."""
        self.slots[slots] = EMPTY
        self.scores[slots] = -np.inf
        self.lengths[slots] = 0
        self.horizon[slots] = UNKNOWN
        self.horizon_id[slots] = None

    def mark(self, slots: Slots, events: Events) -> None:
        """Say that the published part of these lists has changed, and which event did it."""
        self.changed[slots] = True
        self.events[slots] = events

    def short(self, alive: npt.NDArray[np.bool_], below: int) -> npt.NDArray[np.intp]:
        """Slots whose list has fewer than `below` entries though there is more to know."""
        used = len(alive)
        return np.flatnonzero(alive & (self.lengths[:used] < below) & (self.horizon[:used] > COMPLETE))

    def put(self, slot: int, slots: Slots, scores: Scores, horizon_id: str | None, *, complete: bool) -> bool:
        """Replace a list by the best of all tracks, in order; True if its published part is another now."""
        count, first = len(slots), self.published
        differs = not np.array_equal(self.slots[slot, :first], _padded(slots, first)) or not np.array_equal(
            self.scores[slot, : min(count, first)], scores[:first]
        )
        self.slots[slot, :count] = slots
        self.slots[slot, count:] = EMPTY
        self.scores[slot, :count] = scores
        self.scores[slot, count:] = -np.inf
        self.lengths[slot] = count
        self.horizon[slot] = COMPLETE if complete else scores[-1]
        self.horizon_id[slot] = None if complete else horizon_id
        return differs

    def remove(self, gone: Slots, events: Events, used: int) -> None:
        """Take tracks out of every list that names them.

        Args:
            gone: int32 (m,), their slots.
            events: `EVENT` (m,), why each has gone.
            used: How many slots to look through.
        """
        which = np.full(len(self.lengths) + 1, EMPTY, dtype=np.int32)  # the last place is where EMPTY points
        which[gone] = np.arange(len(gone))
        for start in range(0, used, MERGE_ROWS):
            hits = which[self.slots[start : min(start + MERGE_ROWS, used)]]
            rows = np.flatnonzero((hits >= 0).any(axis=1))
            if len(rows):
                self._compact((rows + start).astype(np.int32), hits[rows], events)

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
        """Enter newcomers, all above the horizon, into their target lists.

        Args:
            targets: int32 (m,), whose list each entry goes to; may repeat.
            newcomers: int32 (m,), the slot to enter.
            scores: float32 (m,).
            which: int32 (m,), the index in `events` of the event behind each entry.
            events: `EVENT`.
            catalogue: For ties, the order of ids.
        """
        by_target = np.argsort(targets, kind="stable")
        rows, starts, counts = np.unique(targets[by_target], return_index=True, return_counts=True)
        # Lists that gain many entries are widened apart from the many that gain a few.
        many = counts > 16
        for group in (np.flatnonzero(~many), np.flatnonzero(many)):
            for start in range(0, len(group), MERGE_ROWS):
                part = group[start : start + MERGE_ROWS]
                taken = np.concatenate(
                    [by_target[s : s + c] for s, c in zip(starts[part], counts[part], strict=True)]
                )
                self._merge_rows(
                    rows[part], counts[part], newcomers[taken], scores[taken], which[taken], events, catalogue
                )

    def _merge_rows(
        self,
        rows: Slots,
        counts: npt.NDArray[np.intp],
        newcomers: Slots,
        scores: Scores,
        which: Slots,
        events: Events,
        catalogue: Catalogue,
    ) -> None:
        kept, width = self.kept, self.kept + int(counts.max())
        wide_slots = np.full((len(rows), width), EMPTY, dtype=np.int32)
        wide_scores = np.full((len(rows), width), -np.inf, dtype=np.float32)
        wide_which = np.full((len(rows), width), EMPTY, dtype=np.int32)
        wide_slots[:, :kept], wide_scores[:, :kept] = self.slots[rows], self.scores[rows]
        row = np.repeat(np.arange(len(rows)), counts)
        column = kept + np.arange(len(newcomers)) - np.repeat(np.cumsum(counts) - counts, counts)
        wide_slots[row, column], wide_scores[row, column], wide_which[row, column] = newcomers, scores, which

        ranks = np.argsort(-wide_scores, axis=1, kind="stable")
        ranked = np.take_along_axis(wide_scores, ranks, axis=1)
        tied = ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] > -np.inf)).any(axis=1)
        ranks[tied] = order(wide_scores[tied], catalogue.id_labels[wide_slots[tied]])

        ranks = ranks[:, :kept]
        totals = self.lengths[rows] + counts
        self.slots[rows] = np.take_along_axis(wide_slots, ranks, axis=1)
        self.scores[rows] = np.take_along_axis(wide_scores, ranks, axis=1)
        self.lengths[rows] = np.minimum(totals, kept)
        self._raise_horizons(rows[totals > kept], catalogue.track_ids)
        entered = np.take_along_axis(wide_which, ranks[:, : self.published], axis=1).max(axis=1)
        self.mark(rows[entered >= 0], events[entered[entered >= 0]])

    def _raise_horizons(self, rows: Slots, track_ids: Sequence[str | None]) -> None:
        """An overflowing list is complete down to its last entry, and no further."""
        last = self.kept - 1
        self.horizon[rows] = self.scores[rows, last]
        self.horizon_id[rows] = [track_ids[slot] for slot in self.slots[rows, last].tolist()]

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
            self.taken,
        )
        return sum(array.nbytes for array in arrays)


def _padded(slots: Slots, length: int) -> Slots:
    padded = np.full(length, EMPTY, dtype=np.int32)
    padded[: min(len(slots), length)] = slots[:length]
    return padded

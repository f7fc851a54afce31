"""The exact engine: after every batch all lists are exact, by matrix products over the whole catalogue."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from streams.engine.acceleration import Kernels
from streams.engine.catalogue import Catalogue
from streams.engine.lists import COMPLETE, UNKNOWN, NeighbourLists
from streams.engine.nearest import EngineMatches, NeighbourSearch
from streams.engine.snapshot import (
    RemainingParts,
    Rows,
    SnapshotError,
    SnapshotWriter,
    check_snapshot,
    load_state,
    read_snapshot_header,
)
from streams.engine.types import (
    EMPTY,
    EngineStats,
    Events,
    Keys,
    ListChanges,
    Slots,
    SnapshotHeader,
    StoredLists,
    TrackBatch,
    TrueLists,
    Vectors,
    no_events,
)

# Maximum number of too short lists that a batch completes.
URGENT_REFILLS = 64


class ExactEngine:
    """A `NeighbourEngine` whose lists equal those of a brute-force search, always.

    Args:
        dimension: d of the vectors.
        published: Length of a published list.
        kept: Length of a list here, at least `published`: the unpublished entries replace deleted tracks without a search.
    """

    def __init__(self, dimension: int, *, published: int = 50, kept: int = 100) -> None:
        if not 1 <= published <= kept:
            raise ValueError(f"published must be between 1 and kept, not {published} of {kept}")
        self.catalogue = Catalogue(dimension)
        self.lists = NeighbourLists(published, kept, self.catalogue.capacity)
        self.nearest = NeighbourSearch(self.catalogue, self.lists, self._timed)
        self._owned: frozenset[int] | None = None
        # Deleted tracks to report: partition by key.
        self._deleted: dict[int, int] = {}
        # The changes taken last are given again if their taker ends before it has stored them.
        self._in_flight: Rows = np.empty(0, dtype=np.intp)
        self._in_flight_deleted: dict[int, int] = {}
        self._snapshot: SnapshotWriter | None = None
        self._compile_failure = ""
        self._seconds: dict[str, float] = defaultdict(float)
        self._random = np.random.default_rng()

    def accelerate(self, kernels: Kernels) -> None:
        """Use the compiled loops from now on; the lists stay the same bit for bit."""
        self.lists.accelerate(kernels)
        self.nearest.accelerate(kernels)
        self._compile_failure = ""

    def note_uncompiled(self, reason: str) -> None:
        """Note why there are no compiled loops; `stats` reports it."""
        self._compile_failure = reason

    def load(self, tracks: TrackBatch, lists: StoredLists) -> None:
        """See `NeighbourEngine.load`."""
        if len(self.catalogue):
            raise ValueError("load wants an empty engine")
        self._add(tracks.keys, tracks.track_ids, tracks.vectors, tracks.events)
        self._load_lists(lists, np.empty(0, dtype=np.int32))

    def own(self, partitions: Collection[int] | None) -> None:
        """See `NeighbourEngine.own`."""
        self._owned = None if partitions is None else frozenset(partitions)
        used = self.catalogue.used
        before = self.lists.owned[:used].copy()
        self.lists.owned[:used] = self._owns(self.catalogue.events[:used])
        changed = np.flatnonzero(before != self.lists.owned[:used]).astype(np.int32)
        self.lists.forget(changed)
        self.lists.compact()
        if self._owned is not None:
            self._deleted = {key: owner for key, owner in self._deleted.items() if owner in self._owned}

    def _owns(self, events: Events) -> npt.NDArray[np.bool_]:
        if self._owned is None:
            return np.ones(len(events), dtype=np.bool_)
        return np.isin(events["partition"], list(self._owned))

    def adopt(self, lists: StoredLists, absorbed: Mapping[int, int]) -> None:
        """See `NeighbourEngine.adopt`."""
        slots = self._later_than(absorbed)
        events = self.catalogue.events[slots]
        adopted = self._load_lists(lists, slots)
        if not len(slots) or not len(adopted):
            return
        used = self.catalogue.used
        open_to = np.zeros(used, dtype=np.bool_)
        open_to[adopted] = True
        step = self.nearest.step
        for start in range(0, len(slots), step):
            part = slice(start, start + step)
            found = self.nearest.search(slots[part], np.zeros(len(slots[part]), dtype=np.bool_), open_to)
            self._enter(found, slots[part], np.arange(len(slots))[part], events)

    def _later_than(self, absorbed: Mapping[int, int]) -> Slots:
        """Slots of the tracks whose event is at or above its partition's offset in `absorbed`."""
        used = self.catalogue.used
        events, late = self.catalogue.events[:used], self.catalogue.alive[:used].copy()
        for partition, offset in absorbed.items():
            late &= (events["partition"] != partition) | (events["offset"] >= offset)
        return np.flatnonzero(late).astype(np.int32)

    def _load_lists(self, lists: StoredLists, without: Slots) -> Slots:
        """Load stored lists without the tracks `without`; returns the slots of the loaded lists, int32 (m,)."""
        own = self.catalogue.slots_of(lists.keys)
        wanted = np.flatnonzero(
            (own >= 0) & self.lists.owned[own] & (self.lists.lengths[own] == 0) & ~np.isin(own, without)
        )
        out = np.zeros(self.catalogue.capacity + 1, dtype=np.bool_)  # the last place is where EMPTY points
        out[without] = True
        self._load_whole(own[wanted], lists, wanted, out)
        loaded: Slots = own[wanted]
        for i in wanted[self.lists.lengths[loaded] == 0].tolist():
            self._load_list(int(own[i]), lists, i, out)
        return loaded[self.lists.lengths[loaded] > 0]

    def _load_whole(
        self, own: Slots, lists: StoredLists, which: npt.NDArray[np.intp], out: npt.NDArray[np.bool_]
    ) -> None:
        """Load in one step all lists of full length whose tracks all exist, which almost every list is."""
        full = self.lists.published
        if lists.neighbours.shape[1] < full or len(self.catalogue) - 1 <= full:
            return
        slots = self.catalogue.slots_of(lists.neighbours[which, :full].ravel()).reshape(-1, full)
        fine = (lists.lengths[which] == full) & ((slots >= 0) & ~out[slots]).all(axis=1)
        own, slots, which = own[fine], slots[fine], which[fine]
        self.lists.put(own, slots, lists.scores[which, :full], self.catalogue, complete=False)
        self.lists.events[self.lists.row_of[own]] = lists.events[which]
        self.lists.changed[own] = False

    def _load_list(self, slot: int, lists: StoredLists, i: int, out: npt.NDArray[np.bool_]) -> None:
        length = int(lists.lengths[i])
        slots = self.catalogue.slots_of(lists.neighbours[i, :length])
        known = (slots >= 0) & ~out[slots]
        slots, scores = slots[known], lists.scores[i, :length][known]
        everyone = not out[:-1].any() and len(slots) >= len(self.catalogue) - 1
        # A list below full length may be waiting for a refill; the store does not say which tracks it lacks.
        if everyone or (length == self.lists.published and len(slots)):
            self.lists.put(
                np.array([slot], dtype=np.int32),
                slots[None, :],
                scores[None, :],
                self.catalogue,
                complete=everyone,
            )
            self.lists.events[self.lists.row_of[slot]] = lists.events[i]
            self.lists.changed[slot] = len(slots) < length

    def apply(self, batch: TrackBatch) -> None:
        """See `NeighbourEngine.apply`."""
        events = np.concatenate([batch.deleted_events, batch.events])
        self._note_offsets(events)
        with self._timed("remove"):
            moved, new = self._sort_out(batch)
            gone = self.catalogue.slots_of(batch.deleted)
            leaving = np.concatenate([gone[gone >= 0], moved[moved >= 0]])
            reasons = np.concatenate([batch.deleted_events[gone >= 0], batch.events[moved >= 0]])
            if len(leaving):
                self.lists.remove(leaving, reasons, self.catalogue.used, self.catalogue.track_ids)
                self.lists.clear(leaving)
            self._withdraw(gone[gone >= 0])
            self._note_events(batch, new)
        self.catalogue.vectors[moved[moved >= 0]] = batch.vectors[moved >= 0]
        self.nearest.update(moved[moved >= 0])
        added = self._add(
            batch.keys[new],
            [batch.track_ids[i] for i in np.flatnonzero(new).tolist()],
            batch.vectors[new],
            batch.events[new],
        )
        rows = moved.copy()
        rows[new] = added
        entering = np.flatnonzero(rows >= 0)
        refills = self._most_urgent(URGENT_REFILLS, but_not=rows[entering])
        self._fill(rows[entering], len(batch.deleted) + entering, events, refills)
        self._give_again(batch)

    def _give_again(self, batch: TrackBatch) -> None:
        """Give the known lists of tracks from another partition with the next changes."""
        if not len(batch.moved):
            return
        came = np.isin(batch.keys, batch.moved)
        slots = self.catalogue.slots_of(batch.keys[came])
        known = self.lists.owned[slots] & (self.lists.horizon[slots] != UNKNOWN)
        self.lists.mark(slots[known], batch.events[came][known])

    def _sort_out(self, batch: TrackBatch) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """The slots of tracks whose vector changes (`EMPTY` for the others), and which tracks are new."""
        slots = self.catalogue.slots_of(batch.keys)
        new = slots == EMPTY
        same = ~new & (self.catalogue.vectors[slots] == batch.vectors).all(axis=1)
        return np.where(same, np.int32(EMPTY), slots), new

    def _note_events(self, batch: TrackBatch, new: npt.NDArray[np.bool_]) -> None:
        """Set the events of known tracks. A track whose event is in another partition changes owners."""
        slots, events = self.catalogue.slots_of(batch.keys[~new]), batch.events[~new]
        self.catalogue.events[slots] = events
        self.catalogue.touched[slots] = True
        owned = self._owns(events)
        turned = slots[self.lists.owned[slots] != owned]
        self.lists.owned[slots] = owned
        self.lists.forget(turned)

    def _add(self, keys: Keys, track_ids: list[str], vectors: Vectors, events: Events) -> Slots:
        if self.catalogue.reserve(len(keys)):
            self.lists.resize(self.catalogue.capacity)
        slots = self.catalogue.add(keys, track_ids)
        self.catalogue.vectors[slots] = vectors
        self.nearest.update(slots)
        self.catalogue.events[slots] = events
        self.lists.owned[slots] = self._owns(events)
        return slots

    def _withdraw(self, slots: Slots) -> None:
        mine = slots[self.lists.owned[slots]]
        owners = self.catalogue.events["partition"][mine]
        self._deleted.update(zip(self.catalogue.keys[mine].tolist(), owners.tolist(), strict=True))
        self.lists.changed[slots] = False
        self.lists.pending[slots] = False
        self.nearest.forget(slots)
        self.catalogue.drop(slots)

    def _most_urgent(self, limit: int, but_not: Slots) -> Slots:
        """Slots of at most `limit` lists that are too short to publish in full."""
        short = self.lists.short(self.catalogue.alive[: self.catalogue.used], self.lists.published)
        return np.setdiff1d(short, but_not)[:limit].astype(np.int32)

    def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`. Lists too short to publish come first, then those with few unpublished entries."""
        alive = self.catalogue.alive[: self.catalogue.used]
        urgent = self.lists.short(alive, self.lists.published)
        slack = (self.lists.published + self.lists.kept) // 2
        rows = urgent if len(urgent) else self.lists.short(alive, slack)
        self._fill(
            np.empty(0, dtype=np.int32),
            np.empty(0, dtype=np.intp),
            no_events(),
            rows[:limit].astype(np.int32),
        )
        return max(0, len(rows) - limit)

    def _fill(self, newcomers: Slots, which: npt.NDArray[np.intp], events: Events, refills: Slots) -> None:
        """Compute whole lists, and enter new tracks into all other lists."""
        rows = np.concatenate([newcomers, refills])
        if not len(rows):
            return
        self.nearest.prepare()
        others = self.catalogue.alive[: self.catalogue.used].copy()
        others[rows] = False
        step = self.nearest.step
        for start in range(0, len(newcomers), step):
            part = slice(start, start + step)
            self._fill_slice(newcomers[part], others, which[part], events)
        self._fill_refills(refills)

    def _fill_refills(self, rows: Slots) -> None:
        step = self.nearest.step
        for start in range(0, len(rows), step):
            self._fill_slice(rows[start : start + step], None, None, no_events())

    def _find(
        self, rows: Slots, own: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_] | None
    ) -> EngineMatches:
        """Search for tracks: compute the lists of those in `own`, and find which lists of `others` they may enter."""
        return self.nearest.search(rows, own, others)

    def _fill_slice(
        self,
        rows: Slots,
        others: npt.NDArray[np.bool_] | None,
        which: npt.NDArray[np.intp] | None,
        events: Events,
    ) -> None:
        own = self.lists.owned[rows]
        found = self._find(rows, own, others)
        with self._timed("lists"):
            complete = len(self.catalogue) - 1 <= self.lists.kept
            differs = self.lists.put(
                rows[own], found.best[own], found.scores[own], self.catalogue, complete=complete
            )
        if which is None:
            self.lists.changed[rows[own]] |= differs
            return
        self.lists.mark(rows[own], events[which[own]])
        self._enter(found, rows, which, events)

    def _enter(self, found: EngineMatches, rows: Slots, which: npt.NDArray[np.intp], events: Events) -> None:
        """Enter `rows` into the lists that they were found to enter, if they rank above the horizon."""
        with self._timed("merge"):
            newcomers = rows[found.row]
            above = self.lists.admits(found.targets, found.entries, newcomers, self.catalogue.track_ids)
            if above.any():
                self.lists.merge(
                    found.targets[above],
                    newcomers[above],
                    found.entries[above],
                    which[found.row[above]].astype(np.int32),
                    events,
                    self.catalogue,
                )

    def take_changes(self) -> ListChanges:
        """See `NeighbourEngine.take_changes`."""
        lists, keys = self.lists, self.catalogue.keys
        rows = np.flatnonzero(lists.changed[: self.catalogue.used])
        at = lists.row_of[rows]
        now, scores = lists.slots[at, : lists.published], lists.scores[at, : lists.published]
        departed = self._departed()
        changes = ListChanges(
            keys=keys[rows],
            neighbours=np.where(now >= 0, keys[now], 0),
            scores=np.where(now >= 0, scores, np.float32(0)),
            lengths=(now >= 0).sum(axis=1),
            events=np.where(at > 0, lists.events[at], self.catalogue.events[rows]),
            owners=self.catalogue.events["partition"][rows],
            deleted=departed,
            deleted_owners=np.array([self._deleted[key] for key in departed.tolist()], dtype=np.int32),
            unknown=self._unknown(),
        )
        lists.changed[rows] = False
        lists.touched[rows] = True
        self._in_flight, self._in_flight_deleted = rows, self._deleted
        self._deleted = {}
        self.catalogue.release()
        return changes

    def _unknown(self) -> npt.NDArray[np.int32]:
        used = self.catalogue.used
        unknown = (
            self.catalogue.alive[:used] & self.lists.owned[:used] & (self.lists.horizon[:used] == UNKNOWN)
        )
        partitions: npt.NDArray[np.int32] = np.unique(self.catalogue.events["partition"][:used][unknown])
        return partitions

    def _departed(self) -> Keys:
        """Tracks deleted since the last call and not inserted again."""
        deleted = np.array(sorted(self._deleted), dtype=np.int64)
        gone: Keys = deleted[self.catalogue.slots_of(deleted) == EMPTY]
        return gone

    def begin_snapshot(self, path: str, identity: str, offsets: Mapping[int, int]) -> None:
        """See `NeighbourEngine.begin_snapshot`."""
        if self._snapshot is not None:
            self._snapshot.abandon()
        self._snapshot = SnapshotWriter(path, identity, offsets, self.catalogue, self.lists)

    def continue_snapshot(self, seconds: float) -> SnapshotHeader | None:
        """See `NeighbourEngine.continue_snapshot`."""
        writer = self._snapshot
        if writer is None:
            raise SnapshotError("no snapshot is being written")
        deleted = self._in_flight_deleted | self._deleted
        left = RemainingParts(
            np.fromiter(deleted.keys(), dtype=np.int64, count=len(deleted)),
            np.fromiter(deleted.values(), dtype=np.int32, count=len(deleted)),
        )
        with self._timed("snapshot"):
            writer.advance(seconds, left, self._in_flight)
        if not writer.done:
            return None
        self._snapshot = None
        if writer.header is None:
            raise SnapshotError(writer.error or "the snapshot was not written")
        return writer.header

    def _note_offsets(self, events: Events) -> None:
        """Extend the snapshot under way up to the last applied event."""
        if self._snapshot is None:
            return
        offsets = self._snapshot.offsets
        for partition in np.unique(events["partition"]).tolist():
            last = int(events["offset"][events["partition"] == partition].max())
            offsets[partition] = max(offsets.get(partition, 0), last + 1)

    def load_snapshot(
        self, path: str, identity: str, upto: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """See `NeighbourEngine.load_snapshot`."""
        if len(self.catalogue):
            raise ValueError("load_snapshot wants an empty engine")
        header = read_snapshot_header(path)
        lists = self.lists
        check_snapshot(header, identity, (self.catalogue.dimension, lists.published, lists.kept), upto)
        left = load_state(path, self.catalogue, lists)
        self._deleted = dict(zip(left.keys.tolist(), left.owners.tolist(), strict=True))
        self.nearest.update(np.arange(self.catalogue.used, dtype=np.int32))
        return header.offsets

    def held(self, lists: StoredLists) -> None:
        """See `NeighbourEngine.held`."""
        rows = self.catalogue.slots_of(lists.keys)
        known = (rows >= 0) & self.lists.owned[rows]
        which, rows = np.flatnonzero(known), rows[known]
        at = self.lists.row_of[rows]
        width = min(lists.neighbours.shape[1], self.lists.published)
        if not len(rows) or not width:
            return
        there = np.arange(width) < lists.lengths[which, None]
        stored = self.catalogue.slots_of(lists.neighbours[which, :width].ravel()).reshape(-1, width)
        stored = np.where(there, stored, EMPTY)
        # A list without its deleted tracks is shorter than the stored one, and differs.
        differs = (stored != self.lists.slots[at, :width]).any(axis=1)
        scores = np.where(there, lists.scores[which, :width], -np.inf)
        differs |= (scores != self.lists.scores[at, :width]).any(axis=1)
        differs |= lists.lengths[which] != np.minimum(self.lists.lengths[rows], self.lists.published)
        self.lists.changed[rows] |= differs
        self.lists.touched[rows] = True

    def keys(self) -> Keys:
        """See `NeighbourEngine.keys`."""
        held: Keys = self.catalogue.keys[: self.catalogue.used][self.catalogue.alive[: self.catalogue.used]]
        return held

    def sample(self, count: int) -> TrueLists:
        """See `NeighbourEngine.sample`."""
        lists, published = self.lists, self.lists.published
        used = self.catalogue.used
        alive = np.flatnonzero(self.catalogue.alive[:used] & lists.owned[:used])
        rows = self._random.choice(alive, min(count, len(alive)), replace=False).astype(np.int32)
        if len(rows):
            found = [
                self.nearest.search(part, lists.owned[part], None)
                for part in np.split(rows, range(self.nearest.step, len(rows), self.nearest.step))
            ]
            best = np.concatenate([one.best for one in found])
            scores = np.concatenate([one.scores for one in found])
        else:
            best, scores = lists.slots[:0], lists.scores[:0]
        best, scores = best[:, :published], scores[:, :published]
        waiting = (lists.lengths[rows] < published) & (lists.horizon[rows] > COMPLETE)
        return TrueLists(
            keys=self.catalogue.keys[rows],
            neighbours=np.where(best >= 0, self.catalogue.keys[best], 0),
            scores=np.where(best >= 0, scores, np.float32(0)),
            lengths=(best >= 0).sum(axis=1),
            pending=lists.changed[rows] | waiting,
        )

    def stats(self) -> EngineStats:
        """See `NeighbourEngine.stats`."""
        used = self.catalogue.used
        return EngineStats(
            tracks=len(self.catalogue),
            waiting_refills=len(self.lists.short(self.catalogue.alive[:used], self.lists.published)),
            memory_bytes=self.catalogue.memory_bytes + self.lists.memory_bytes + self.nearest.memory_bytes,
            seconds=dict(self._seconds),
            compiled=self.nearest.is_compiled,
            compile_failure=self._compile_failure,
        )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start

"""The exact engine: every list right after every batch, by matrix products over the whole catalogue."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.neighbours.catalogue import Catalogue
from streams.neighbours.lists import COMPLETE, UNKNOWN, NeighbourLists
from streams.neighbours.similarity import (
    GROUPS_PER_ENTRY,
    exact_similarity,
    group_maxima,
    order_within,
    product_error,
)
from streams.neighbours.types import (
    EMPTY,
    EngineStats,
    Events,
    Keys,
    ListChanges,
    Scores,
    Slots,
    StoredLists,
    TrackBatch,
    TrueLists,
    Vectors,
    no_events,
)

# Rows of a product are sliced so that it holds at most this many float32 values (256 MiB).
PRODUCT_VALUES = 64 * 1024 * 1024
PRODUCT_ROWS = 256


@dataclass(frozen=True, slots=True)
class _Near:
    """What a search for `rows` tracks found, flat: `row` (n,) says for which of them, `candidates` (n,) which slots.

    `rough` and `exact` (n,) are the similarities as the product has them and as they are; `own` (n,) tells which
    candidates may be in the row's own list.
    """

    rows: int
    row: npt.NDArray[np.intp]
    candidates: Slots
    rough: Scores
    exact: Scores
    own: npt.NDArray[np.bool_]


class ExactEngine:
    """A `NeighbourEngine` whose lists equal those of a brute-force search, always.

    Args:
        dimension: d of the vectors.
        published: How many neighbours the world sees.
        kept: How many are kept, so that departures need no search: at least `published`.
    """

    def __init__(self, dimension: int, *, published: int = 50, kept: int = 100) -> None:
        if not 1 <= published <= kept:
            raise ValueError(f"published must be between 1 and kept, not {published} of {kept}")
        self.catalogue = Catalogue(dimension)
        self.lists = NeighbourLists(published, kept, self.catalogue.capacity)
        self._error = product_error(dimension)
        self._owned: frozenset[int] | None = None
        # By key, the partition of the track that was deleted.
        self._deleted: dict[int, int] = {}
        self._refilled = 0
        self._seconds: dict[str, float] = defaultdict(float)
        self._random = np.random.default_rng()

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
        self.lists.events[changed] = self.catalogue.events[changed]
        if self._owned is not None:
            self._deleted = {key: owner for key, owner in self._deleted.items() if owner in self._owned}

    def _owns(self, events: Events) -> npt.NDArray[np.bool_]:
        if self._owned is None:
            return np.ones(len(events), dtype=np.bool_)
        return np.isin(events["partition"], list(self._owned))

    def adopt(self, lists: StoredLists, late: Keys, late_events: Events) -> None:
        """See `NeighbourEngine.adopt`."""
        slots = self.catalogue.slots_of(late)
        here = slots >= 0
        slots, events = slots[here], late_events[here]
        adopted = self._load_lists(lists, slots)
        if not len(slots) or not len(adopted):
            return
        used = self.catalogue.used
        bounds = np.full(used, UNKNOWN, dtype=np.float32)
        bounds[adopted] = self.lists.horizon[adopted] - self._error
        step = self._step()
        for start in range(0, len(slots), step):
            part = slice(start, start + step)
            near = self._near(slots[part], bounds, own=np.zeros(len(slots[part]), dtype=np.bool_))
            self._enter_reached(near, slots[part], bounds, np.arange(len(slots))[part], events)

    def _load_lists(self, lists: StoredLists, without: Slots) -> Slots:
        """Take stored lists in, leaving out the tracks `without`; the slots, int32 (m,), whose list this was."""
        own = self.catalogue.slots_of(lists.keys)
        wanted = np.flatnonzero(
            (own >= 0) & self.lists.owned[own] & (self.lists.lengths[own] == 0) & ~np.isin(own, without)
        )
        out = np.zeros(self.catalogue.capacity + 1, dtype=np.bool_)  # the last place is where EMPTY points
        out[without] = True
        for i in wanted.tolist():
            self._load_list(int(own[i]), lists, i, out)
        loaded: Slots = own[wanted]
        return loaded[self.lists.lengths[loaded] > 0]

    def _load_list(self, slot: int, lists: StoredLists, i: int, out: npt.NDArray[np.bool_]) -> None:
        length = int(lists.lengths[i])
        slots = self.catalogue.slots_of(lists.neighbours[i, :length])
        known = (slots >= 0) & ~out[slots]
        slots, scores = slots[known], lists.scores[i, :length][known]
        everyone = not out[:-1].any() and len(slots) >= len(self.catalogue) - 1
        # A list below full length may be waiting for a refill: nothing says what it lacks.
        if everyone or (length == self.lists.published and len(slots)):
            self.lists.put(
                np.array([slot], dtype=np.int32),
                slots[None, :],
                scores[None, :],
                self.catalogue.track_ids,
                complete=everyone,
            )
            self.lists.events[slot] = lists.events[i]
            self.lists.taken[slot, : len(slots)] = slots
            self.lists.changed[slot] = len(slots) < length

    def apply(self, batch: TrackBatch) -> None:
        """See `NeighbourEngine.apply`."""
        events = np.concatenate([batch.deleted_events, batch.events])
        with self._timed("remove"):
            moved, new = self._sort_out(batch)
            gone = self.catalogue.slots_of(batch.deleted)
            leaving = np.concatenate([gone[gone >= 0], moved[moved >= 0]])
            reasons = np.concatenate([batch.deleted_events[gone >= 0], batch.events[moved >= 0]])
            if len(leaving):
                self.lists.remove(leaving, reasons, self.catalogue.used)
                self.lists.clear(leaving)
            self._withdraw(gone[gone >= 0])
            self._note_events(batch, new)
        self.catalogue.vectors[moved[moved >= 0]] = batch.vectors[moved >= 0]
        added = self._add(
            batch.keys[new],
            [batch.track_ids[i] for i in np.flatnonzero(new).tolist()],
            batch.vectors[new],
            batch.events[new],
        )
        rows = moved.copy()
        rows[new] = added
        entering = np.flatnonzero(rows >= 0)
        refills = self._most_urgent(PRODUCT_ROWS, but_not=rows[entering])
        self._fill(rows[entering], len(batch.deleted) + entering, events, refills)

    def _sort_out(self, batch: TrackBatch) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """The slots of tracks whose vector moves (`EMPTY` for the others), and which tracks are new."""
        slots = self.catalogue.slots_of(batch.keys)
        new = slots == EMPTY
        same = ~new & (self.catalogue.vectors[slots] == batch.vectors).all(axis=1)
        return np.where(same, np.int32(EMPTY), slots), new

    def _note_events(self, batch: TrackBatch, new: npt.NDArray[np.bool_]) -> None:
        """Known tracks are of their new events now. One whose partition is another's changes hands."""
        slots, events = self.catalogue.slots_of(batch.keys[~new]), batch.events[~new]
        self.catalogue.events[slots] = events
        owned = self._owns(events)
        turned = slots[self.lists.owned[slots] != owned]
        self.lists.owned[slots] = owned
        self.lists.forget(turned)

    def _add(self, keys: Keys, track_ids: list[str], vectors: Vectors, events: Events) -> Slots:
        if self.catalogue.reserve(len(keys)):
            self.lists.resize(self.catalogue.capacity)
        slots = self.catalogue.add(keys, track_ids)
        self.catalogue.vectors[slots] = vectors
        self.catalogue.events[slots] = events
        self.lists.owned[slots] = self._owns(events)
        self.lists.events[slots] = events
        return slots

    def _withdraw(self, slots: Slots) -> None:
        mine = slots[self.lists.owned[slots]]
        owners = self.catalogue.events["partition"][mine]
        self._deleted.update(zip(self.catalogue.keys[mine].tolist(), owners.tolist(), strict=True))
        self.lists.changed[slots] = False
        self.lists.taken[slots] = EMPTY
        self.catalogue.drop(slots)

    def _most_urgent(self, limit: int, but_not: Slots) -> Slots:
        """Lists that are too short to publish in full, `limit` at most."""
        short = self.lists.short(self.catalogue.alive[: self.catalogue.used], self.lists.published)
        return np.setdiff1d(short, but_not)[:limit].astype(np.int32)

    def refill(self, limit: int) -> int:
        """See `NeighbourEngine.refill`. Lists too short to publish come first, then those short of slack."""
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
        """Compute whole lists, and enter the newcomers among them into everyone else's."""
        rows = np.concatenate([newcomers, refills])
        if not len(rows):
            return
        used = self.catalogue.used
        bounds = self.lists.horizon[:used] - self._error
        bounds[self.catalogue.dead()] = UNKNOWN
        bounds[rows] = UNKNOWN
        step = self._step()
        for start in range(0, len(newcomers), step):
            part = slice(start, start + step)
            self._fill_slice(newcomers[part], bounds, which[part], events)
        for start in range(0, len(refills), step):
            self._fill_slice(refills[start : start + step], None, None, events)
            self._refilled += len(refills[start : start + step])

    def _step(self) -> int:
        """Rows of one product."""
        return max(1, min(PRODUCT_ROWS, PRODUCT_VALUES // max(self.catalogue.used, 1)))

    def _fill_slice(
        self, rows: Slots, bounds: Scores | None, which: npt.NDArray[np.intp] | None, events: Events
    ) -> None:
        own = self.lists.owned[rows]
        near = self._near(rows, bounds, own)
        with self._timed("lists"):
            best, scores = self._best(near)
            complete = len(self.catalogue) - 1 <= self.lists.kept
            differs = self.lists.put(
                rows[own], best[own], scores[own], self.catalogue.track_ids, complete=complete
            )
        if bounds is None or which is None:
            self.lists.changed[rows[own]] |= differs
            return
        self.lists.mark(rows[own], events[which[own]])
        self._enter_reached(near, rows, bounds, which, events)

    def _enter_reached(
        self, near: _Near, rows: Slots, bounds: Scores, which: npt.NDArray[np.intp], events: Events
    ) -> None:
        with self._timed("merge"):
            reached = near.rough >= bounds[near.candidates]
            row = near.row[reached]
            causes = which[row].astype(np.int32)
            self._enter(near.candidates[reached], rows[row], near.exact[reached], causes, events=events)

    def _near(self, rows: Slots, bounds: Scores | None, own: npt.NDArray[np.bool_]) -> _Near:
        """Search the catalogue for the best of some tracks, where `own` wants it, and for lists that these may enter."""
        with self._timed("product"):
            product = self._product(rows)
        with self._timed("select"):
            own_bounds = np.full(len(rows), UNKNOWN, dtype=np.float32)
            own_bounds[own] = self._own_bounds(product if own.all() else product[own])
            found = self._select(product, own_bounds, bounds)
            row = np.repeat(np.arange(len(rows)), [len(candidates) for candidates in found])
            candidates = np.concatenate(found).astype(np.int32)
            rough = product[row, candidates]
        with self._timed("similarity"):
            vectors = self.catalogue.vectors
            exact = np.concatenate(
                [exact_similarity(vectors[slot], vectors[c]) for slot, c in zip(rows, found, strict=True)]
            )
        return _Near(len(rows), row, candidates, rough, exact, rough >= own_bounds[row])

    def _product(self, rows: Slots) -> Scores:
        """Approximate similarities of some tracks to all slots, float32 (m, used); -inf where there is none."""
        used = self.catalogue.used
        product: Scores = self.catalogue.vectors[rows] @ self.catalogue.vectors[:used].T
        product[:, self.catalogue.dead()] = -np.inf
        product[np.arange(len(rows)), rows] = -np.inf
        return product

    def _own_bounds(self, product: Scores) -> Scores:
        """A value for each row that its best `kept` entries surely reach, float32 (m,)."""
        kept = self.lists.kept
        if len(self.catalogue) - 1 <= kept:
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

    def _best(self, near: _Near) -> tuple[Slots, Scores]:
        """Whole lists, int32 (m, kept), and their scores; past the end of a list `EMPTY` and -inf."""
        row, candidates, scores = near.row[near.own], near.candidates[near.own], near.exact[near.own]
        ranks = order_within(row, scores, self.catalogue.id_labels[candidates])
        row = row[ranks]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        first = place < self.lists.kept
        ranks, row, place = ranks[first], row[first], place[first]
        best = np.full((near.rows, self.lists.kept), EMPTY, dtype=np.int32)
        their_scores = np.full(best.shape, -np.inf, dtype=np.float32)
        best[row, place], their_scores[row, place] = candidates[ranks], scores[ranks]
        return best, their_scores

    def _enter(
        self, targets: Slots, newcomers: Slots, scores: Scores, which: Slots, *, events: Events
    ) -> None:
        track_ids = self.catalogue.track_ids
        above = self.lists.admits(targets, scores, newcomers, track_ids)
        if above.any():
            self.lists.merge(
                targets[above], newcomers[above], scores[above], which[above], events, self.catalogue
            )

    def take_changes(self) -> ListChanges:
        """See `NeighbourEngine.take_changes`."""
        lists, keys = self.lists, self.catalogue.keys
        rows = np.flatnonzero(lists.changed[: self.catalogue.used])
        now = lists.slots[rows, : lists.published]
        before = lists.taken[rows]
        scores = lists.scores[rows, : lists.published]
        departed = self._departed()
        changes = ListChanges(
            keys=keys[rows],
            neighbours=np.where(now >= 0, keys[now], 0),
            scores=np.where(now >= 0, scores, np.float32(0)),
            lengths=(now >= 0).sum(axis=1),
            previous=np.where(before >= 0, keys[before], 0),
            previous_lengths=(before >= 0).sum(axis=1),
            events=lists.events[rows],
            owners=self.catalogue.events["partition"][rows],
            deleted=departed,
            deleted_owners=np.array([self._deleted[key] for key in departed.tolist()], dtype=np.int32),
        )
        lists.taken[rows] = now
        lists.changed[rows] = False
        self._deleted = {}
        self.catalogue.release()
        return changes

    def _departed(self) -> Keys:
        """Tracks deleted since the last call and not inserted again."""
        deleted = np.array(sorted(self._deleted), dtype=np.int64)
        gone: Keys = deleted[self.catalogue.slots_of(deleted) == EMPTY]
        return gone

    def sample(self, count: int) -> TrueLists:
        """See `NeighbourEngine.sample`."""
        lists, published = self.lists, self.lists.published
        used = self.catalogue.used
        alive = np.flatnonzero(self.catalogue.alive[:used] & lists.owned[:used])
        rows = self._random.choice(alive, min(count, len(alive)), replace=False).astype(np.int32)
        if len(rows):
            best, scores = self._best(self._near(rows, None, lists.owned[rows]))
        else:
            best, scores = lists.slots[rows], lists.scores[rows]
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
            changed_lists=int(self.lists.changed[:used].sum()),
            waiting_refills=len(self.lists.short(self.catalogue.alive[:used], self.lists.published)),
            refilled=self._refilled,
            memory_bytes=self.catalogue.memory_bytes + self.lists.memory_bytes,
            seconds=dict(self._seconds),
        )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start

"""Picks tracks for one question from one source, under caps and near-duplicates, and counts the stages."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streams.strategies import auto, filters, hubs, registry
from streams.strategies.entries import DEFAULT_POOL
from streams.strategies.gate import NEAR_DUPLICATES, CapGate
from streams.strategies.ranking import Ranking
from streams.strategies.source import Source
from streams.strategies.types import Filter, Indices, Mask, Query, StageCount, StrategyChoice

# Each further pool is so many times as large, up to `registry.MOST`.
_WIDER = 4


@dataclass(frozen=True, slots=True)
class PickedCandidate:
    """A picked track: its place in the source, its score, and the conditions that it does not meet."""

    place: int
    score: float
    components: dict[str, float]
    relaxed: tuple[str, ...]


class PickingRun:
    """Picks tracks for a query. Used once: `fill`, `count`, then perhaps `relax`.

    The strategy re-ranks a pool, the most similar tracks that may be listed. If a pool runs out, the next one is made of the
    tracks that may still be listed, until the list is full or the source has no more.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
        MissingData: the strategy needs vectors that are not there.
    """

    def __init__(self, source: Source, query: Query) -> None:
        self.source = source
        self.query = query
        self.picks: list[PickedCandidate] = []
        self.notes: list[str] = []
        self.masks = {condition: source.meeting(condition) for condition in query.filters}
        present = source.present()
        filtered = self._meeting(present, query.filters)
        self._base = present.copy()
        own = {track.key for track in (*query.seeds, *query.negatives)}
        self._base[source.places_of(own | query.exclude)] = False
        self.eligible = filtered & self._base
        self.gate = CapGate(source, query)
        self.resolved, self.choice = self._resolve()
        self.pool: Indices = np.empty(0, dtype=np.intp)
        self._ranking: Ranking | None = None
        self._open: Mask = np.empty(0, dtype=np.bool_)
        self._counts = [
            (name, int(np.count_nonzero(mask)))
            for name, mask in (("received", present), ("filters", filtered), ("exclude", self.eligible))
        ]

    def _resolve(self) -> tuple[registry.Resolved, StrategyChoice]:
        resolved = registry.resolve_strategy(self.query.strategy, self.query.mode, self.query.parameters)
        if resolved.strategy.name != registry.AUTO:
            return resolved, StrategyChoice(resolved.strategy.name, resolved.mode.name)
        nearest = self.source.nearest(self.eligible, DEFAULT_POOL)
        pool = self.source.candidates(self.source.by_label(nearest), vectors=True)
        choice = auto.choose_strategy(pool, self.query)
        return registry.resolve_strategy(choice.strategy, choice.mode), choice

    def _meeting(self, places: Mask, conditions: tuple[Filter, ...]) -> Mask:
        found = places.copy()
        for condition in conditions:
            found &= self.masks[condition]
        return found

    def fill(self, need: int, *, until: int | None = None) -> None:
        """Pick from what may be listed now until there are `need`, or the place `until` is listed or closed."""
        size = registry.pool_size(self.resolved, self.query)
        while len(self.picks) < need and not self._done(until):
            if self._order_is_fixed:
                size = max(size, need - len(self.picks))
            nearest = self.source.nearest(self.eligible & ~self.gate.closed, size)
            if not len(nearest):
                return
            self._rank(nearest)
            self.pick_on(need, until=until)
            size = max(size, min(_WIDER * size, registry.MOST))

    @property
    def _order_is_fixed(self) -> bool:
        """Whether tracks rank alike in whatever pool: then a pool may hold as many as it takes."""
        return self.resolved.strategy.name == registry.DEFAULT and not self.query.hub_correction

    def _done(self, until: int | None) -> bool:
        return until is not None and bool(self.gate.closed[until])

    def _rank(self, nearest: Indices) -> None:
        """Make a pool of what is listed and these, and rank it."""
        listed = np.array([pick.place for pick in self.picks], dtype=np.intp)
        self.pool = self.source.by_label(np.concatenate([listed, nearest]))
        self._open = self.gate.open_in(self.pool)
        pool = self.source.candidates(self.pool, vectors=self.resolved.mode.depends_on("vectors"))
        pool, notes = hubs.correct_hubs(pool, self.query.hub_correction)
        assert self.resolved.mode.rank is not None
        self._ranking = self.resolved.mode.rank(pool, self.query, self.resolved.settings)
        # The notes of the last pool hold for all.
        self.notes = list(dict.fromkeys((*notes, *self._ranking.notes)))
        for place in listed.tolist():
            self._ranking.take(int(np.flatnonzero(self.pool == place)[0]))

    def pick_on(self, need: int, *, until: int | None = None) -> None:
        """Pick from the last pool until there are `need`, it runs out, or the place `until` is listed or closed."""
        ranking = self._ranking
        while ranking is not None and len(self.picks) < need and not self._done(until):
            found = ranking.best(self._open)
            if found is None:
                return
            place = int(self.pool[found])
            if self.gate.refuses(place):
                continue
            unmet = [_named(condition) for condition, meets in self.masks.items() if not meets[place]]
            relaxed = tuple(dict.fromkeys([*self.gate.violated(place), *unmet]))
            self.picks.append(
                PickedCandidate(place, ranking.score(found), ranking.components(found), relaxed)
            )
            ranking.take(found)
            self.gate.take(place)

    def relax(self, need: int) -> bool:
        """Give up one condition after the other until there are `need` picks; whether all were given up."""
        for condition in self._relaxations():
            if len(self.picks) >= need:
                return False
            if isinstance(condition, str):
                self.gate.give_up(condition)
            else:
                self.eligible = self._meeting(self._base, self._kept_after(condition))
            self.fill(need)
            stage = f"relaxed {_named(condition)}"
            if self._counts[-1][0] == stage:  # of several conditions on one field the last one counts
                self._counts.pop()
            self._counts.append((stage, self._held()[1]))
        return True

    def _relaxations(self) -> Iterator[str | Filter]:
        yield from self.gate.conditions
        yield from filters.relaxation_order(self.query.filters)

    def _kept_after(self, last: Filter) -> tuple[Filter, ...]:
        order = filters.relaxation_order(self.query.filters)
        gone = set(order[: order.index(last) + 1])
        return tuple(condition for condition in self.query.filters if condition not in gone)

    def relaxed(self) -> tuple[str, ...]:
        """The conditions that some pick does not meet, in the order of relaxation."""
        broken = {name for pick in self.picks for name in pick.relaxed}
        order = [_named(condition) for condition in self._relaxations()]
        return tuple(name for name in dict.fromkeys(order) if name in broken)

    def count(self) -> None:
        """Count what near-duplicates and caps have left; to be called once, after the first `fill`."""
        near, caps = self._held()
        self._counts += [(NEAR_DUPLICATES, near), ("caps", caps)]

    def _held(self) -> tuple[int, int]:
        """How many tracks near-duplicates leave now of what is eligible, and how many of these the caps leave."""
        members = int(np.count_nonzero(self.eligible))
        repeated = sum(1 for place in self.gate.repeated if self.eligible[place])
        closed = int(np.count_nonzero(self.eligible & self.gate.closed))
        listed = sum(1 for pick in self.picks if self.eligible[pick.place])
        return members - repeated, members - closed + listed

    def stages(self) -> tuple[StageCount, ...]:
        """What each stage left, in order: what was asked for, what was given up after that, the list."""
        return tuple(StageCount(name, held) for name, held in (*self._counts, ("top_k", len(self.picks))))


def _named(condition: str | Filter) -> str:
    return condition if isinstance(condition, str) else f"filters.{condition.field}"

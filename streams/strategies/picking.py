"""One question put to one set of candidates: the stages, and the picking under caps and near-duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.strategies import auto, filters, hubs, registry
from streams.strategies.gate import CAPPED, NEAR_DUPLICATES, Gate, Groups
from streams.strategies.ranking import Ranking
from streams.strategies.types import Candidates, Choice, Filter, Indices, Mask, Query, StageCount

# A pool that runs out is widened by this factor until it holds every candidate.
_WIDER = 4
# Fewer keys than this are sooner looked for one by one.
_MANY = 8


@dataclass(frozen=True, slots=True)
class Pick:
    """A candidate as it was picked: its place in the candidates, and what held at that moment."""

    index: int
    score: float
    components: dict[str, float]
    relaxed: tuple[str, ...]


class Run:
    """Picks candidates for a query. Used once: `fill`, `count`, then perhaps `relax`.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
        MissingData: the strategy needs vectors that are not there.
    """

    def __init__(self, candidates: Candidates, query: Query) -> None:
        self.candidates = candidates
        self.query = query
        self.picks: list[Pick] = []
        self.notes: list[str] = []
        self.masks = {condition: filters.mask(condition, candidates) for condition in query.filters}
        unique = _by_label(candidates)
        self.seeds = _members(candidates, {s.key for s in (*query.seeds, *query.negatives)})
        self.excluded = _members(candidates, query.exclude)
        self._base = unique[~(self.seeds | self.excluded)[unique]]
        self._eligible = self._meeting(query.filters)
        filtered = unique[self._eligible[unique]]
        self.strict = self._base[self._eligible[self._base]]
        self.gate = Gate(candidates, query.caps, query.near_duplicates, query.seeds)
        self.resolved, self.choice = self._resolve()
        self._listed: Mask = np.zeros(len(candidates), dtype=np.bool_)
        self._counts = [("received", len(unique)), ("filters", len(filtered)), ("exclude", len(self.strict))]

    def _resolve(self) -> tuple[registry.Resolved, Choice]:
        resolved = registry.resolve(self.query.strategy, self.query.mode, self.query.parameters)
        if resolved.strategy.name != registry.AUTO:
            return resolved, Choice(resolved.strategy.name, resolved.mode.name)
        choice = auto.choose(self._pool(self.strict), self.query)
        return registry.resolve(choice.strategy, choice.mode), choice

    def _pool(self, indices: Indices, *, vectors: bool = True) -> Candidates:
        return self.candidates.take(indices, vectors=vectors)

    def _meeting(self, conditions: tuple[Filter, ...]) -> Mask:
        eligible = np.ones(len(self.candidates), dtype=np.bool_)
        for condition in conditions:
            eligible &= self.masks[condition]
        return eligible

    def fill(self, need: int, *, until: int | None = None) -> None:
        """Pick from what is eligible now until there are `need`, or `until` is picked or closed."""
        members = self._base[self._eligible[self._base]]
        size = registry.pool_size(self.resolved, len(members), self.query.top_k)
        while True:
            indices = self._nearest(members, size)
            if len(self.picks) < need and len(indices) > len(self.picks):
                self._pick_from(indices, need, until)
            done = until is not None and (self._listed[until] or self.gate.closed[until])
            if done or len(self.picks) >= need or len(indices) == len(members):
                return
            size *= _WIDER

    def _nearest(self, members: Indices, size: int) -> Indices:
        """The `size` most similar of the members, and what is listed already; still by label."""
        if size >= len(members):
            return members
        kept = np.zeros(len(members), dtype=np.bool_)
        kept[np.argsort(-self.candidates.similarity[members], kind="stable")[:size]] = True
        return members[kept | self._listed[members]]

    def _pick_from(self, indices: Indices, need: int, until: int | None) -> None:
        pool = self._pool(indices, vectors=self.resolved.mode.vectors)
        pool, notes = hubs.corrected(pool, self.query.hub_correction)
        assert self.resolved.mode.rank is not None
        ranking = self.resolved.mode.rank(pool, self.query, self.resolved.settings)
        # Of a pool that was widened the last one says what is true of all.
        self.notes = list(dict.fromkeys((*notes, *ranking.notes)))
        for pick in self.picks:
            ranking.take(int(np.flatnonzero(indices == pick.index)[0]))
        while len(self.picks) < need:
            found = ranking.best(~self.gate.closed[indices])
            if found is None:
                return
            self._offer(int(indices[found]), found, ranking)
            if until is not None and (self._listed[until] or self.gate.closed[until]):
                return

    def _offer(self, index: int, found: int, ranking: Ranking) -> None:
        if self.gate.refuses(index):
            return
        unmet = [_named(condition) for condition, meets in self.masks.items() if not meets[index]]
        relaxed = tuple(dict.fromkeys([*self.gate.violated(index), *unmet]))
        self.picks.append(Pick(index, ranking.score(found), ranking.components(found), relaxed))
        self._listed[index] = True
        ranking.take(found)
        self.gate.take(index)

    def relax(self, need: int) -> bool:
        """Give up one condition after the other until there are `need` picks; whether all were given up."""
        for condition in self._relaxations():
            if len(self.picks) >= need:
                return False
            if isinstance(condition, str):
                self.gate.give_up(condition)
            else:
                kept = self._kept_after(condition)
                self._eligible = self._meeting(kept)
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
        self._counts += [("near_duplicates", near), ("caps", caps)]

    def _held(self) -> tuple[int, int]:
        """How many candidates near-duplicates leave now of what is eligible, and how many of these the caps leave."""
        members = int(np.count_nonzero(self._eligible[self._base]))
        if not self.gate.cause:
            return members, members
        closed = np.fromiter(self.gate.cause, dtype=np.intp, count=len(self.gate.cause))
        inside = (self._eligible & ~(self.seeds | self.excluded))[closed]
        near = np.array([name == NEAR_DUPLICATES for name, _ in self.gate.cause.values()], dtype=np.bool_)
        return members - int((inside & near).sum()), members - int(inside.sum())

    def stages(self) -> tuple[StageCount, ...]:
        """What each stage left, in order: what was asked for, what was given up after that, the list."""
        return tuple(StageCount(name, held) for name, held in (*self._counts, ("top_k", len(self.picks))))


def _named(condition: str | Filter) -> str:
    return condition if isinstance(condition, str) else f"filters.{condition.field}"


def listable(candidates: Candidates, query: Query) -> Indices:
    """How many of the first 1, 2, ... n candidates one list could hold at most while nothing is relaxed: (n,).

    Told from metadata alone, in far less time than it takes to rank: near-duplicates and hubs are not looked for. No
    candidate is given twice.
    """
    eligible = ~_members(
        candidates, {track.key for track in (*query.seeds, *query.negatives)} | query.exclude
    )
    for condition in query.filters:
        eligible &= filters.mask(condition, candidates)
    most: Indices = np.cumsum(eligible)
    for name in CAPPED:
        cap = getattr(query.caps, name)
        if cap is not None:
            # Who is in several groups is counted in one: a bound all the same.
            groups = np.where(eligible, Groups(candidates, name).first, -1)
            below = eligible & ((groups < 0) | (_occurrence(groups) < cap))
            most = np.minimum(most, np.cumsum(below))
    return most


def _occurrence(groups: npt.NDArray[np.int64]) -> Indices:
    """How often each value has stood before: (n,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered)
    counts = np.empty(len(groups), dtype=np.intp)
    counts[order] = np.arange(len(groups)) - first
    return counts


def _by_label(candidates: Candidates) -> Indices:
    """Every candidate once, by label; of those given twice, the more similar."""
    order = np.lexsort((-candidates.similarity, candidates.keys, candidates.labels))
    keys = candidates.keys[order]
    # Equal keys have equal labels: they stand side by side.
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return order[first]


def _members(candidates: Candidates, keys: set[int] | frozenset[int]) -> Mask:
    if len(keys) > _MANY:
        return np.isin(candidates.keys, np.fromiter(keys, dtype=np.int64, count=len(keys)))
    found = np.zeros(len(candidates), dtype=np.bool_)
    for key in keys:
        found |= candidates.keys == key
    return found

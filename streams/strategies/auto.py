"""The strategy `auto`: chooses another strategy by the available data, and says why."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from streams.metadata_fields import COMPARED_BY
from streams.strategies import facts, registry
from streams.strategies.arrays import cosines
from streams.strategies.types import Candidates, Query, StrategyChoice

_MANY_SKIPS = 3
_SEEDS_DIFFER = 0.5  # mean cosine of the seeds below which one query vector stands for none of them
_ONE_SOURCE = 0.8  # share of the nearest by one composer, artist or of one album
_ALIKE = 0.9  # mean cosine among the nearest above which they repeat each other
_HEARD = 0.1  # share of candidates that somebody has listened to


def choose_strategy(pool: Candidates, query: Query) -> StrategyChoice:
    """The strategy for this question and these candidates; the first rule that applies decides.

    1. `user_context.goal`, one of `registry.GOALS`, if its data is available (popularity: as in rule 5). 2.
    `user_context.recent_skips` of 3 or more: variety. 3. Seeds that differ (mean cosine below 0.5): one track of each
    cluster. 4. The nearest are mostly (80 %) by one composer or artist or of one album, or very similar (mean cosine
    above 0.9): variety. 5. At least a tenth of the candidates have been listened to: hybrid. 6. similarity.
    """
    for rule in _RULES:
        found = rule(pool, query)
        if found is not None:
            return found
    return StrategyChoice("similarity", None, "nothing is known that speaks for another strategy")


def _goal(pool: Candidates, query: Query) -> StrategyChoice | None:
    goal = query.user_context.get("goal")
    if not isinstance(goal, str) or goal not in registry.GOALS:
        return None
    strategy, mode = registry.GOALS[goal]
    if ("popularity" in mode.needs and not _heard(pool)) or (
        "vectors" in mode.needs and pool.vectors is None
    ):
        return None
    return StrategyChoice(strategy.name, mode.name, f"the listener's goal is {goal}")


def _skips(pool: Candidates, query: Query) -> StrategyChoice | None:
    skips = _count(query.user_context.get("recent_skips"))
    if skips < _MANY_SKIPS or pool.vectors is None:
        return None
    return StrategyChoice("diverse", "mmr", f"{skips} skips lately: more of the same would not do")


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seeds_differ(pool: Candidates, query: Query) -> StrategyChoice | None:
    vectors = [seed.vector for seed in query.seeds if seed.vector is not None]
    if len(vectors) < 2 or pool.vectors is None:
        return None
    mean = _mean_cosine(np.stack(vectors))
    if mean >= _SEEDS_DIFFER:
        return None
    return StrategyChoice(
        "diverse", "cluster", f"the seeds differ (mean cosine {mean:.2f}): each side should be heard"
    )


def _one_source(pool: Candidates, query: Query) -> StrategyChoice | None:
    nearest = _nearest(pool, query)
    if pool.vectors is None or len(nearest) < 3:
        return None
    for name in ("composer", "artist", "album"):
        field = COMPARED_BY.get(name, name)
        held = Counter(
            text
            for index in nearest.tolist()
            for text in {facts.comparable_value(field, one) for one in _each(pool.value(field, index))}
        )
        del held[None]
        most = max(held.values(), default=0)
        if most >= _ONE_SOURCE * len(nearest):
            return StrategyChoice("diverse", "mmr", f"{most} of the {len(nearest)} nearest share one {name}")
    return None


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _alike(pool: Candidates, query: Query) -> StrategyChoice | None:
    nearest = _nearest(pool, query)
    if pool.vectors is None or len(nearest) < 3:
        return None
    mean = _mean_cosine(pool.vectors[nearest])
    if mean <= _ALIKE:
        return None
    return StrategyChoice("diverse", "mmr", f"the nearest are much alike (mean cosine {mean:.2f})")


def _popularity(pool: Candidates, query: Query) -> StrategyChoice | None:
    del query
    return (
        StrategyChoice("hybrid", None, "enough of the candidates have been listened to")
        if _heard(pool)
        else None
    )


def _heard(pool: Candidates) -> bool:
    return pool.heard is not None and len(pool) > 0 and bool(pool.heard.mean() >= _HEARD)


def _nearest(pool: Candidates, query: Query) -> np.ndarray[Any, np.dtype[np.intp]]:
    return np.argsort(-pool.similarity, kind="stable")[: query.top_k]


def _mean_cosine(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    upper = np.triu_indices(len(vectors), 1)
    return float(cosines(vectors, vectors)[upper].mean())


_RULES: Final[tuple[Callable[[Candidates, Query], StrategyChoice | None], ...]] = (
    _goal,
    _skips,
    _seeds_differ,
    _one_source,
    _alike,
    _popularity,
)

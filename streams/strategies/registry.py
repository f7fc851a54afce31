"""The strategies by name.

A strategy's own entry says what it does, needs and takes; it stands beside its functions. Nothing else lists strategies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.strategies.blends import HYBRID, POPULAR
from streams.strategies.diverse import DIVERSE
from streams.strategies.entries import RankingMode, Strategy
from streams.strategies.errors import InvalidQuery
from streams.strategies.exploration import RANDOM
from streams.strategies.parameters import Value, resolve_settings
from streams.strategies.similarity import SIMILARITY
from streams.strategies.types import Caps, Query

AUTO: Final = "auto"
DEFAULT: Final = SIMILARITY.name

STRATEGIES: Final = (
    SIMILARITY,
    DIVERSE,
    POPULAR,
    HYBRID,
    RANDOM,
    # Its rules stand in `auto`, which must know the goals of all others.
    Strategy(
        AUTO,
        "Chooses one of the others by what is known of the listener and of the candidates, and says why.",
        (
            RankingMode(
                description="Rules, first match wins.",
                formula="goal; skips; seeds that differ; candidates too much alike; popularity known; else similarity",
                source="own",
                rank=None,
                uses=frozenset({"vectors", "popularity", "metadata"}),
                similar_first=False,
            ),
        ),
    ),
)

_BY_NAME: Final = {strategy.name: strategy for strategy in STRATEGIES}
ALIASES: Final[Mapping[str, tuple[str, str | None]]] = {
    alias: (strategy.name, mode)
    for strategy in STRATEGIES
    for alias, mode in (strategy.aliases or {}).items()
}
# Every name that a strategy goes by.
NAMES: Final = (*_BY_NAME, *ALIASES)
# What a listener may want, in `user_context.goal`, and what serves it.
GOALS: Final[Mapping[str, tuple[Strategy, RankingMode]]] = {
    mode.goal: (strategy, mode) for strategy in STRATEGIES for mode in strategy.modes if mode.goal
}
# How many tracks are re-ranked at most.
MOST: Final = 5_000


@dataclass(frozen=True, slots=True)
class Resolved:
    """A strategy, one of its modes, and every setting with its value."""

    strategy: Strategy
    mode: RankingMode
    settings: Mapping[str, Value]


def find_mode(name: str, mode: str | None = None) -> tuple[Strategy, RankingMode]:
    """The strategy called `name`, which may be an alias, and its mode.

    Raises:
        InvalidQuery: there is no such strategy or mode, or the alias stands for another mode.
    """
    canonical, alias_mode = ALIASES.get(name, (name, None))
    strategy = _BY_NAME.get(canonical)
    if strategy is None:
        raise InvalidQuery("strategy", f"is none of {', '.join(NAMES)}")
    if mode and alias_mode and mode != alias_mode:
        raise InvalidQuery("mode", f"contradicts {name}, which is {canonical} in mode {alias_mode}")
    wanted = mode or alias_mode or strategy.modes[0].name
    for known in strategy.modes:
        if known.name == wanted:
            return strategy, known
    has = f"its modes are {', '.join(strategy.mode_names)}" if strategy.mode_names else "it has none"
    raise InvalidQuery("mode", f"is not a mode of {canonical}: {has}")


def resolve_strategy(name: str, mode: str | None = None, given: Mapping[str, Any] | None = None) -> Resolved:
    """The strategy called `name`, its mode, and that mode's settings with defaults filled in.

    `auto` has no settings: what it chooses has its defaults.

    Raises:
        InvalidQuery: as `find_mode`; a parameter that the mode does not take, or a value out of bounds.
    """
    strategy, found = find_mode(name, mode)
    whose = f"{strategy.name}/{found.name}" if found.name else strategy.name
    return Resolved(strategy, found, resolve_settings(whose, strategy.taken_by(found.name), given or {}))


def pool_size(resolved: Resolved, query: Query) -> int:
    """How many tracks, the most similar of those that may be listed, are re-ranked at first."""
    if resolved.strategy.name == DEFAULT and not query.hub_correction:
        # They rank alike in whatever pool: room for some that near-duplicates and caps close.
        return query.top_k if query.near_duplicates is None and query.caps == Caps() else 2 * query.top_k
    mode = resolved.mode
    return int(resolved.settings.get("pool", 0)) or mode.pool_factor * query.top_k or mode.pool


def describe_strategies() -> list[dict[str, Any]]:
    """Every strategy as JSON has it: names, aliases, modes, formulas, sources, parameters with bounds."""
    return [strategy.describe() for strategy in STRATEGIES]

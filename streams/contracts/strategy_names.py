"""The strategies by name, for those who ask: their modes, their other names, and the goals of `auto`.

What they compute is `streams.strategies`; tests hold these tables against it.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

DEFAULT_STRATEGY: Final = "similarity"
AUTO: Final = "auto"

# The first mode of a strategy is its default.
STRATEGY_MODES: Final[Mapping[str, tuple[str, ...]]] = {
    DEFAULT_STRATEGY: (),
    "diverse": ("mmr", "cluster", "novelty", "serendipity", "contrast"),
    "popular": (),
    "hybrid": (),
    "random": (),
    AUTO: (),
}
STRATEGY_ALIASES: Final[Mapping[str, tuple[str, str | None]]] = {
    "similar": (DEFAULT_STRATEGY, None),
    "complementary": ("diverse", "cluster"),
    "balanced": ("hybrid", None),
    "exploration": ("random", None),
}
# What `auto` can be told to aim at.
Goal = Literal[
    "similar",
    "variety",
    "complement",
    "discover",
    "surprise",
    "contrast",
    "popular",
    "explore",
    "balanced",
]
GOALS: Final[tuple[str, ...]] = get_args(Goal)
STRATEGY_NAMES: Final = (*STRATEGY_MODES, *STRATEGY_ALIASES)


class UnknownStrategy(ValueError):  # noqa: N818 -- it says what is wrong already
    """No such strategy, no such mode of it, or not the mode that its name stands for.

    Attributes:
        field: `strategy` or `mode`.
        reason: What is wrong with it, without its name.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def canonical_strategy(name: str, mode: str | None = None) -> tuple[str, str | None]:
    """The strategy's own name and the mode that is meant, of a name that may be an alias.

    Raises:
        UnknownStrategy: there is no such strategy, it has no such mode, or the alias stands for another mode.
    """
    known, alias_mode = STRATEGY_ALIASES.get(name, (name, None))
    modes = STRATEGY_MODES.get(known)
    if modes is None:
        raise UnknownStrategy("strategy", f"is none of {', '.join(STRATEGY_NAMES)}")
    if mode and alias_mode and mode != alias_mode:
        raise UnknownStrategy("mode", f"contradicts {name}, which is {known} in mode {alias_mode}")
    meant = mode or alias_mode or (modes[0] if modes else None)
    if meant is not None and meant not in modes:
        has = f"its modes are {', '.join(modes)}" if modes else "it has none"
        raise UnknownStrategy("mode", f"is not a mode of {known}: {has}")
    return known, meant

"""The strategies that can be asked for, their other names and their modes."""

from dataclasses import dataclass, field

from serving import problems


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy as callers know it."""

    name: str
    description: str
    formula: str
    aliases: tuple[str, ...] = ()
    modes: tuple[str, ...] = field(default=())


STRATEGIES = (
    Strategy(
        name="similarity",
        description="The tracks most like the reference track, the most similar first.",
        formula="score = cosine similarity of the two embeddings, from -1 to 1",
        aliases=("similar",),
    ),
)
DEFAULT = "similarity"

_BY_NAME = {name: strategy for strategy in STRATEGIES for name in (strategy.name, *strategy.aliases)}


def resolve(name: str, mode: str | None) -> Strategy:
    """The strategy called `name`, which may be an alias.

    Raises:
        ProblemError: 422, where there is no such strategy, or it has no such mode.
    """
    strategy = _BY_NAME.get(name)
    if strategy is None:
        raise problems.unknown_strategy(name, list(_BY_NAME))
    if mode is not None and mode not in strategy.modes:
        known = f"its modes are {', '.join(strategy.modes)}" if strategy.modes else "it has none"
        raise problems.invalid_parameters([("mode", f"is not a mode of {strategy.name}: {known}")])
    return strategy

"""The types of registry entries. A strategy's entry stands beside its functions and describes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streams.strategies.parameters import Parameter
from streams.strategies.ranking import Ranking
from streams.strategies.types import Candidates, Query, Settings

Rank = Callable[[Candidates, Query, Settings], Ranking]
Components = Mapping[str, float]
# The data that a ranking can depend on, beside the candidates' similarity.
Data = Literal["vectors", "popularity", "metadata", "time"]

# The default number of tracks that are re-ranked.
DEFAULT_POOL: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingMode:
    """One way of a strategy to rank.

    Attributes:
        name: None for the only mode of a strategy.
        description: In a sentence.
        formula: In a line.
        source: The papers that it comes from.
        rank: The pure function that ranks; None for `auto`, which hands over to another strategy.
        needs: The data without which the ranking means nothing.
        uses: Further data that the ranking depends on.
        goal: The goal of a listener that this mode serves, for `auto`.
        explain: Phrases about one track, from the components of its score; empty phrases are left out.
        pool: How many of the most similar tracks are re-ranked at first.
        pool_factor: Re-rank so many times `top_k` instead; 0: `pool` holds.
        similar_first: Whether similar tracks tend to rank first, so that a correction for hubs has an effect.
    """

    name: str | None = None
    description: str
    formula: str
    source: str
    rank: Rank | None
    needs: frozenset[Data] = frozenset()
    uses: frozenset[Data] = frozenset()
    goal: str | None = None
    explain: Callable[[Components], list[str]] | None = None
    pool: int = DEFAULT_POOL
    pool_factor: int = 0
    similar_first: bool = True

    def depends_on(self, data: Data) -> bool:
        """Whether the ranking changes with this data."""
        return data in self.needs or data in self.uses


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy as callers know it.

    Attributes:
        name: As callers write it.
        description: In a sentence.
        modes: The first is the default.
        parameters: The settings of its modes.
        aliases: Other names, each with the mode that it stands for; None for the default.
    """

    name: str
    description: str
    modes: tuple[RankingMode, ...]
    parameters: tuple[Parameter, ...] = ()
    aliases: Mapping[str, str | None] | None = None

    @property
    def mode_names(self) -> tuple[str, ...]:
        """The names of its modes, the default first; empty where it has no modes to choose from."""
        return tuple(mode.name for mode in self.modes if mode.name)

    def taken_by(self, mode: str | None) -> list[Parameter]:
        """The parameters that a mode takes."""
        return [one for one in self.parameters if not one.modes or mode in one.modes]

    def describe(self) -> dict[str, Any]:
        """The strategy as JSON has it."""
        named = [mode for mode in self.modes if mode.name]
        return {
            "name": self.name,
            "description": self.description,
            "aliases": [
                {"name": alias, **({"mode": mode} if mode else {})}
                for alias, mode in (self.aliases or {}).items()
            ],
            "formula": self.modes[0].formula,
            "source": self.modes[0].source,
            "default_mode": self.modes[0].name,
            "modes": [
                {"name": m.name, "description": m.description, "formula": m.formula, "source": m.source}
                for m in named
            ],
            "parameters": [parameter.describe() for parameter in self.parameters],
        }

"""What is evaluated: a line of the table each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.listening import SimulatedListening
from streams.strategies import registry
from streams.strategies.entries import RankingMode
from streams.strategies.types import Query, Seed

LENGTH: Final = 10
CHANCE: Final = "chance"
MOST_PLAYED: Final = "most played"
CORRECTED: Final = ", corrected"


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A strategy in one mode with its settings, or a baseline.

    Attributes:
        name: As the table has it.
        strategy: Its name; None for a baseline.
        mode: Its mode.
        parameters: Settings that differ from the defaults.
        hub_correction: See `streams.strategies.hubs`.
    """

    name: str
    strategy: str | None = None
    mode: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hub_correction: float = 0.0

    @property
    def reads_facts(self) -> bool:
        """Whether it may look at metadata: then it is scored on lists that it makes without seeing the label."""
        return self._mode is not None and self._mode.depends_on("metadata")

    @property
    def ranks_by_similarity(self) -> bool:
        """Whether correcting hubs says something of it."""
        return self._mode is not None and self._mode.similar_first

    @property
    def reads_vectors(self) -> bool:
        """Whether it compares candidates with each other."""
        return self._mode is not None and self._mode.depends_on("vectors")

    @property
    def _mode(self) -> RankingMode | None:
        return None if self.strategy is None else registry.find_mode(self.strategy, self.mode)[1]

    def query(self, seed: Seed) -> Query:
        """The question that it answers for a seed. The moment is fixed: the same run has the same lists."""
        assert self.strategy is not None
        return Query(
            seeds=(seed,),
            strategy=self.strategy,
            mode=self.mode,
            parameters=self.parameters,
            top_k=LENGTH,
            hub_correction=self.hub_correction,
        )

    def corrected(self, strength: float) -> "PlanEntry":
        """The same with hubs corrected."""
        return replace(self, name=self.name + CORRECTED, hub_correction=strength)


def planned_entries(wanted: Sequence[str] = ()) -> list[PlanEntry]:
    """Every strategy in every mode, or those called by `wanted`: `strategy`, `strategy/mode`, or another name of it.

    Raises:
        InvalidQuery: there is no such strategy or mode.
    """
    every = [
        PlanEntry(f"{strategy.name}/{mode.name}" if mode.name else strategy.name, strategy.name, mode.name)
        for strategy in registry.STRATEGIES
        for mode in strategy.modes
    ]
    if not wanted:
        return every
    chosen = {name for one in wanted for name in _named(one, every)}
    return [entry for entry in every if entry.name in chosen]


def _named(wanted: str, every: Iterable[PlanEntry]) -> list[str]:
    name, _, mode = wanted.partition("/")
    resolved = registry.resolve_strategy(name, mode or None)
    if not mode and name not in registry.ALIASES:
        return [entry.name for entry in every if entry.strategy == resolved.strategy.name]
    return [
        entry.name
        for entry in every
        if (entry.strategy, entry.mode) == (resolved.strategy.name, resolved.mode.name)
    ]


def by_chance(seeds: npt.NDArray[np.int64], count: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Lists drawn evenly from the catalogue without the seed itself, int64 (m, 10)."""
    size = min(LENGTH, count - 1)
    made = np.full((len(seeds), LENGTH), -1, dtype=np.int64)
    for place, seed in enumerate(seeds.tolist()):
        drawn = random.choice(count - 1, size=size, replace=False)
        made[place, :size] = drawn + (drawn >= seed)
    return made


def most_played(seeds: npt.NDArray[np.int64], listening: SimulatedListening) -> npt.NDArray[np.int64]:
    """The most popular tracks without the seed itself, the same for everybody, int64 (m, 10)."""
    top = np.argsort(-listening.percentile, kind="stable")[: LENGTH + 1]
    made = np.full((len(seeds), LENGTH), -1, dtype=np.int64)
    for place, seed in enumerate(seeds.tolist()):
        kept = top[top != seed][:LENGTH]
        made[place, : len(kept)] = kept
    return made

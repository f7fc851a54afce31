"""What an evaluation found, as values and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.aspects import AspectFigures
from mess.evaluate.intervals import Interval

ROUNDED: Final = 5


@dataclass(frozen=True, eq=False, slots=True)
class MeasuredFigures:
    """One line of the table.

    Attributes:
        name: Strategy and mode, or the baseline.
        means: Measure to its mean over the seeds: `precision_<label>` and `ndcg_<label>` with the label held out,
            `diversity`, `novelty`, `closeness`, `percentile`.
        against: The same minus that of `similarity`, of the same seeds.
        seen: Label to precision@10 of lists that were made with the label in sight, where that differs.
        coverage: Share of the catalogue in some list.
        gini: Of exposure.
        hubs: Tracks in more than 1 % of the lists.
        largest: Share of the lists that hold the most frequent track.
        counts: int64 (n,), in how many lists each track stands.
    """

    name: str
    means: dict[str, Interval]
    against: dict[str, Interval]
    seen: dict[str, float]
    coverage: float
    gini: float
    hubs: int
    largest: float
    counts: npt.NDArray[np.int64]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "measures": {name: _interval(one) for name, one in self.means.items()},
            "against_similarity": {name: _interval(one) for name, one in self.against.items()},
            "precision_label_seen": {name: _number(one) for name, one in self.seen.items()},
            "coverage": _number(self.coverage),
            "gini": _number(self.gini),
            "hubs": self.hubs,
            "largest_hub": _number(self.largest),
        }


def _interval(one: Interval) -> dict[str, float | None]:
    return {"mean": _number(one.mean), "low": _number(one.low), "high": _number(one.high)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, ROUNDED)


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """How a label was scored: on how many seeds, what chance gives, what was hidden meanwhile."""

    name: str
    seeds: int
    values: int
    chance: float
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PopularityShift:
    """How `popular` follows the listening: the same seeds before any, after some, and after other listening.

    Attributes:
        seeds: How many lists.
        before: Mean percentile, by the first listening, of the lists without any.
        first_by_first: Of the lists after the first listening, by the first.
        second_by_first: Of the lists after the second, by the first.
        second_by_second: Of the lists after the second, by the second.
        first_by_second: Of the lists after the first, by the second.
        kept: Mean Jaccard index of the lists before and after the first listening.
        kept_between: The same of the lists after the first and after the second.
        same_as_similarity: Whether the lists before any are those of `similarity`.
    """

    seeds: int
    before: float
    first_by_first: float
    second_by_first: float
    second_by_second: float
    first_by_second: float
    kept: float
    kept_between: float
    same_as_similarity: bool


@dataclass(frozen=True, eq=False, slots=True)
class EvaluationReport:
    """All of it.

    Attributes:
        catalogue: Which one, for people.
        fingerprint: Twelve digits of its ids and vectors.
        tracks: How many it has.
        dimension: Of the vectors.
        seeds: How many lists each line is measured on.
        random_seed: What sampling, simulation, chance and intervals are drawn from.
        listening: Where popularity comes from.
        labels: How each label was scored.
        lines: The table.
        shift: How `popular` moves; None where it was not asked for.
        hubs: Lines with hubs corrected, named after those of the table.
        aspects: What each aspect alone is worth; empty if the vectors have none.
    """

    catalogue: str
    fingerprint: str
    tracks: int
    dimension: int
    seeds: int
    random_seed: int
    listening: str
    labels: Sequence[LabelFacts]
    lines: Sequence[MeasuredFigures]
    shift: PopularityShift | None = None
    hubs: Sequence[MeasuredFigures] = field(default_factory=tuple)
    aspects: Sequence[AspectFigures] = field(default_factory=tuple)

    def line(self, name: str) -> MeasuredFigures | None:
        """The line called `name`."""
        return next((one for one in (*self.lines, *self.hubs) if one.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """As JSON has it; intervals are of 95 %, from the bootstrap over seeds."""
        shift = self.shift
        return {
            "catalogue": self.catalogue,
            "fingerprint": self.fingerprint,
            "tracks": self.tracks,
            "dimension": self.dimension,
            "seeds": self.seeds,
            "random_seed": self.random_seed,
            "listening": self.listening,
            "labels": [
                {
                    "name": one.name,
                    "seeds": one.seeds,
                    "values": one.values,
                    "chance": _number(one.chance),
                    "hidden": list(one.hidden),
                }
                for one in self.labels
            ],
            "strategies": [one.as_json() for one in self.lines],
            "hubs_held_back": [one.as_json() for one in self.hubs],
            "aspects": [
                {
                    "question": one.question,
                    "seeds": one.seeds,
                    "listed": one.listed,
                    "chance": _number(one.chance),
                    "figures": {name: _interval(each) for name, each in one.figures.items()},
                }
                for one in self.aspects
            ],
            "popular_shift": None
            if shift is None
            else {
                name: _number(value) if isinstance(value := getattr(shift, name), float) else value
                for name in shift.__slots__
            },
        }

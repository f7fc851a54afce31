"""Aspects: the named parts of an embedding, each normalised by itself and weighed.

With weights w_p that sum to 1 and unit parts x_p, a track's vector is the concatenation of sqrt(w_p) x_p. The inner product of
two such vectors is the weighted mean of the parts' cosines, so lists and searches need to know nothing of parts. A part that a
track lacks is zeros: its cosine with anything counts as 0, and the vector is shorter than 1.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from streams.strategies.types import Floats, Vector, Vectors

MAX_ASPECTS: Final = 32
NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_NAME: Final = re.compile(NAME_PATTERN.removesuffix("$"))
_ITEM: Final = r"[A-Za-z][A-Za-z0-9_-]{0,63}(:-?[0-9]{1,4}(\.[0-9]{1,9})?)?"
# Weights as text: names, each with a weight behind a colon; 1 where it has none.
WEIGHTS_PATTERN: Final = rf"^{_ITEM}(,{_ITEM}){{0,31}}$"
_WEIGHT: Final = re.compile(_ITEM)
# An object with one of these is a packed embedding.
RESERVED: Final = frozenset({"dtype", "data"})
MAX_WEIGHT: Final = 1_000.0
_LEAST_TOTAL: Final = 1e-9
# With less, float32 would say little of the part.
LEAST_SHARE: Final = 0.0001

Weights = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Aspect:
    """A part of every embedding of a catalogue.

    Attributes:
        name: Its name.
        size: How many components it has.
        weight: Its share of the similarity, above 0; the shares of a layout sum to 1.
    """

    name: str
    size: int
    weight: float


@dataclass(frozen=True, slots=True)
class Layout:
    """What the components of a catalogue's vectors are.

    Attributes:
        dimension: How many there are.
        aspects: The parts, in the order of their components; none: the vectors have no named parts.
        model: The name of the model that makes them; None where no event has said.
    """

    dimension: int
    aspects: tuple[Aspect, ...] = ()
    model: str | None = None

    @staticmethod
    def of_sizes(sizes: Mapping[str, int], weights: Weights | None = None) -> "Layout":
        """The layout of parts of these sizes, ordered by name.

        Args:
            sizes: By name.
            weights: Of the same names, above 0, in any unit; None: equal.
        """
        given = weights or dict.fromkeys(sizes, 1.0)
        total = math.fsum(given.values())
        aspects = tuple(Aspect(name, sizes[name], given[name] / total) for name in sorted(sizes))
        return Layout(sum(sizes.values()), aspects)

    @staticmethod
    def of_rows(dimension: int, rows: Sequence[tuple[str, int, float]], model: str | None = None) -> "Layout":
        """The layout that `rows` once returned."""
        return Layout(dimension, tuple(Aspect(*row) for row in rows), model)

    @property
    def rows(self) -> list[tuple[str, int, float]]:
        """The aspects as plain values: name, size, weight."""
        return [(aspect.name, aspect.size, aspect.weight) for aspect in self.aspects]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the aspects, in order."""
        return tuple(aspect.name for aspect in self.aspects)

    @property
    def parts(self) -> dict[str, slice]:
        """Where the components of each aspect are."""
        made, start = {}, 0
        for aspect in self.aspects:
            made[aspect.name] = slice(start, start + aspect.size)
            start += aspect.size
        return made

    def join(self, parts: Mapping[str, Vector]) -> Vector:
        """The vector of unit parts, float32 (dimension,), read-only; parts that are left out are zeros."""
        joined = np.zeros(self.dimension, dtype=np.float64)
        for aspect, where in zip(self.aspects, self.parts.values(), strict=True):
            if aspect.name in parts:
                joined[where] = math.sqrt(aspect.weight) * parts[aspect.name].astype(np.float64)
        vector: Vector = joined.astype(np.float32)
        vector.flags.writeable = False
        return vector

    def split(self, vector: Vector) -> dict[str, Vector]:
        """The parts of a vector, scaled by the roots of their weights; zeros where one is missing."""
        return {name: vector[where] for name, where in self.parts.items()}

    def factors(self, weights: Weights) -> Floats:
        """What a question's components are multiplied by to weigh its parts: float64 (dimension,).

        The inner product of the product with a track's vector is then the mean of the parts' cosines, weighted by
        `weights` over the sum of their absolute values; parts without a weight count nothing, negative ones against.
        """
        total = math.fsum(map(abs, weights.values()))
        shares = [weights.get(aspect.name, 0.0) / total / aspect.weight for aspect in self.aspects]
        factors: Floats = np.repeat(np.array(shares), [aspect.size for aspect in self.aspects])
        return factors

    def highest_product(self, vector: Floats) -> float:
        """The highest inner product that a vector (dimension,) can have with a track's."""
        parts = zip(self.aspects, self.parts.values(), strict=True)
        return math.fsum(math.sqrt(aspect.weight) * float(np.linalg.norm(vector[p])) for aspect, p in parts)

    def cosines(self, vector: Vector, others: Vectors) -> Floats:
        """The cosine of each part of a vector with the same part of n others: float64 (n, aspects).

        NaN where either lacks the part.
        """
        starts = [where.start for where in self.parts.values()]
        one, many = vector.astype(np.float64), others.astype(np.float64)
        products = np.add.reduceat(many * one, starts, axis=1)
        lengths = np.sqrt(np.add.reduceat(many * many, starts, axis=1))
        lengths *= np.sqrt(np.add.reduceat(one * one, starts))
        cosines = np.full(products.shape, np.nan)
        np.divide(products, lengths, out=cosines, where=lengths > 0)
        found: Floats = np.clip(cosines, -1.0, 1.0)
        return found

    def described(self, cosines: Floats) -> list[dict[str, float | None]]:
        """Each row of `cosines` by name, to six decimals; None where either track lacks the part."""
        names = self.names
        # All at once: every list that is read for the first time is described so.
        rounded = np.round(cosines * 1e6) / 1e6 + 0.0  # no minus zero
        rows: list[list[float | None]] = rounded.tolist()
        for row, column in np.argwhere(np.isnan(cosines)).tolist():
            rows[row][column] = None
        return [dict(zip(names, row, strict=True)) for row in rows]


@dataclass(frozen=True, slots=True)
class FirstTrack:
    """What the track that fixes the layout must have; None in each: anything.

    Attributes:
        dimension: The length of its vector, which then has no parts.
        weights: The weights of the aspects, which must be these; None: equal ones.
        model: The name of the model.
    """

    dimension: int | None = None
    weights: Weights | None = None
    model: str | None = None


# What vectors must be made up of: a layout, or, as long as no track has fixed it, what the first one must have.
Expected = Layout | FirstTrack | None


def extremes(aspects: Mapping[str, float | None]) -> str | None:
    """In words, the aspects in which two tracks are most and least alike; None where fewer than two are known.

    Of equal ones, the first by name.
    """
    known = {name: cosine for name, cosine in aspects.items() if cosine is not None}
    if len(known) < 2:
        return None
    most, least = max(known, key=known.__getitem__), min(reversed(known), key=known.__getitem__)
    return f"most alike in {most} ({known[most]:.2f}), least in {least} ({known[least]:.2f})"


def described_weights(weights: Weights) -> str:
    """Weights in words, such as "rhythm 0.7, melody 0.3"."""
    return ", ".join(
        f"{name} {weight:.3g}" for name, weight in sorted(weights.items(), key=lambda one: -abs(one[1]))
    )


def is_name(name: Any) -> bool:
    """Whether an aspect may have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in RESERVED


def parse_weights(text: str) -> dict[str, float]:
    """The weights of a text such as `rhythm:0.7,melody:0.3`.

    Raises:
        ValueError: It is something else; the message goes after the name of the field.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        if not _WEIGHT.fullmatch(part):
            raise ValueError(f"{part[:80]!r} is no name:weight, such as rhythm:0.7")
        name, colon, number = part.partition(":")
        if name in weights:
            raise ValueError(f"{name} is given twice")
        weights[name] = float(number) if colon else 1.0
    return checked_weights(weights)


def weights_of(layout: Layout) -> str | None:
    """Weights as text that make this layout again of the same parts; None: it has no parts, or all count alike.

    Shares are rounded; they are given as whole numbers wherever small ones say them exactly.
    """
    shares = {aspect.name: aspect.weight for aspect in layout.aspects}
    least = min(shares.values(), default=0.0)
    if least == max(shares.values(), default=0.0):
        return None
    ratios = [Fraction(share / least).limit_denominator(100) for share in shares.values()]
    unit = math.lcm(*(ratio.denominator for ratio in ratios))
    wholes = [int(ratio * unit) for ratio in ratios]
    if max(wholes) <= MAX_WEIGHT and all(
        math.isclose(whole / sum(wholes), share, rel_tol=1e-12)
        for whole, share in zip(wholes, shares.values(), strict=True)
    ):
        return ",".join(f"{name}:{whole}" for name, whole in zip(shares, wholes, strict=True))
    return ",".join(f"{name}:{share * MAX_WEIGHT:.9f}" for name, share in shares.items())


def checked_weights(weights: Weights) -> dict[str, float]:
    """Weights in canonical form: by name, none zero, absolute values that sum to 1.

    Raises:
        ValueError: They cannot be meant.
    """
    if not 1 <= len(weights) <= MAX_ASPECTS:
        raise ValueError(f"must name 1 to {MAX_ASPECTS} aspects")
    for name, weight in weights.items():
        if not is_name(name):
            raise ValueError(f"{name[:60]!r} is no name of an aspect")
        if not abs(weight) <= MAX_WEIGHT:
            raise ValueError(f"{name} must be between {-MAX_WEIGHT:,.0f} and {MAX_WEIGHT:,.0f}")
    total = math.fsum(map(abs, weights.values()))
    if not total > _LEAST_TOTAL:
        raise ValueError("must not all be zero, or nearly")
    return {name: weights[name] / total for name in sorted(weights) if weights[name]}

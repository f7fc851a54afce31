"""The facts that a candidate shares with the seeds: composer, form, era, key, instrument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.strategies.text import NOBODY, plain_text
from streams.strategies.types import Candidates, Floats, Indices, Mask, Seed


@dataclass(frozen=True, slots=True)
class Fact:
    """A metadata field that indicates likeness, with its name in explanations and its weight."""

    field: str
    said: str
    weight: float


# By descending weight; the weights add up to one.
FACTS: Final = (
    Fact("composer", "composer", 0.3),
    Fact("form", "form", 0.2),
    Fact("key_signature", "key", 0.1),
    Fact("era", "era", 0.2),
    Fact("instrument", "instrument", 0.2),
)
FIELDS: Final = tuple(fact.field for fact in FACTS)
_PLAIN: Final = frozenset({str, type(None)})
# No candidate has it: those of whom nothing is known have -1.
_NO_CODE: Final = -2


def comparable_value(field: str, value: Any) -> str | None:
    """A fact's value for comparison; None if it is unknown or means nobody."""
    text = plain_text(value)
    return None if field == "composer" and text in NOBODY else text


def comparable_facts(track: Mapping[str, Any]) -> list[tuple[Fact, str]]:
    """The known facts of a track, for comparison."""
    return [(fact, value) for fact in FACTS if (value := comparable_value(fact.field, track.get(fact.field)))]


def shared_facts(
    seeds: Sequence[Mapping[str, Any]], candidates: Candidates, which: Indices
) -> list[tuple[tuple[str, str], ...]]:
    """(fact, value as the candidate's catalogue writes it) for each fact that each candidate shares with one of the seeds.

    Args:
        seeds: The metadata of each.
        candidates: n of them.
        which: intp (n,), the seed that each is compared with.
    """
    found: list[list[tuple[str, str]]] = [[] for _ in range(len(candidates))]
    for fact in FACTS if seeds else ():
        values = candidates.listed(fact.field)
        coded = field_codes(fact.field, values)
        if values is None or coded is None:
            continue
        numbers, theirs = coded
        ours = [
            numbers.get(comparable_value(fact.field, seed.get(fact.field)) or "", _NO_CODE) for seed in seeds
        ]
        for index in np.flatnonzero(theirs == np.array(ours)[which]).tolist():
            found[index].append((fact.said, str(values[index]).strip()))
    return [tuple(each) for each in found]


def matching_candidates(seed: Mapping[str, Any], candidates: Candidates, field: str) -> Mask | None:
    """Which candidates have the seed's value of a field: bool (n,); None where the seed has none."""
    ours = comparable_value(field, seed.get(field))
    if ours is None:
        return None
    return _equal(field_codes(field, candidates.listed(field)), ours, len(candidates))


def facts_in_common(seeds: tuple[Seed, ...], candidates: Candidates) -> Floats | None:
    """The share of the seeds' facts that each candidate has too, 0 to 1: float64 (n,).

    For one seed: the weight of the shared facts, divided by the weight of all its facts. For several: the mean by the
    seeds' weights. None if nothing is known of any seed.
    """
    of_seeds = [(seed, said) for seed in seeds if (said := comparable_facts(seed.metadata))]
    asked = dict.fromkeys(fact.field for _, said in of_seeds for fact, _ in said)
    coded = {field: field_codes(field, candidates.listed(field)) for field in asked}
    total, weights = np.zeros(len(candidates)), 0.0
    for seed, said in of_seeds:
        own = np.zeros(len(candidates))
        for fact, ours in said:
            own += fact.weight * _equal(coded[fact.field], ours, len(candidates))
        total += seed.weight * own / sum(fact.weight for fact, _ in said)
        weights += seed.weight
    return total / weights if weights else None


Codes = tuple[dict[str, int], npt.NDArray[np.int64]]


def field_codes(field: str, values: list[Any] | None) -> Codes | None:
    """The values of a field numbered: their numbers, and int64 (n,), -1 where nothing is known."""
    if values is None:
        return None
    if not _PLAIN.issuperset(map(type, values)):
        values = [None if value is None else str(value) for value in values]
    numbers: dict[str, int] = {}
    # Values repeat: each distinct one is normalised once.
    read: dict[str | None, int] = dict.fromkeys(values, -1)
    for raw in read:
        text = comparable_value(field, raw)
        if text is not None:
            read[raw] = numbers.setdefault(text, len(numbers))
    return numbers, np.fromiter(map(read.__getitem__, values), dtype=np.int64, count=len(values))


def _equal(coded: Codes | None, value: str, count: int) -> Mask:
    if coded is None or value not in coded[0]:
        return np.zeros(count, dtype=np.bool_)
    return np.equal(coded[1], coded[0][value])

"""Two generations side by side: how much their lists of the same tracks have in common, and which names better neighbours."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import numpy as np
import numpy.typing as npt

from store import comparison, generations
from store.comparison import GenerationList
from streams.generations import GenerationName

# How strongly rank-biased overlap counts the first places: with .9 the first ten have 86 % of the weight.
PERSISTENCE: Final = 0.9
DEPTH: Final = 50
LABELS: Final = ("composer", "era", "form", "album")
# Neighbours whose labels are compared.
_LABELLED: Final = 10


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How many of the first ten neighbours have the track's own label.

    Attributes:
        label: Which.
        tracks: Compared tracks that have it.
        left: Mean share in one generation.
        right: In the other.
    """

    label: str
    tracks: int
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class TrackDifference:
    """A track whose lists differ.

    Attributes:
        track_id: The track.
        overlap: Share of the two lists that is in both.
        gained: By how many neighbours with a label of its own the other list has more; negative: fewer.
        left: The first neighbours in one generation.
        right: In the other.
    """

    track_id: str
    overlap: float
    gained: int
    left: list[str]
    right: list[str]


@dataclass(frozen=True, slots=True)
class GenerationComparison:
    """Two generations side by side.

    Attributes:
        left: One generation.
        right: The other.
        common: Tracks with a list in both.
        compared: How many of these were compared, drawn at random.
        overlap: Mean share of the first fifty that is in both lists.
        rank_biased: Mean rank-biased overlap, which counts the first places most.
        labels: By label that enough tracks have.
        winners: Tracks whose labels the other generation's neighbours share more often, the largest gain first.
        losers: Likewise less often.
        furthest: Tracks whose lists have least in common.
    """

    left: GenerationName
    right: GenerationName
    common: int
    compared: int
    overlap: float
    rank_biased: float
    labels: list[LabelAgreement]
    winners: list[TrackDifference]
    losers: list[TrackDifference]
    furthest: list[TrackDifference]


async def compare(
    pool: asyncpg.Pool,
    left: GenerationName,
    right: GenerationName,
    *,
    sample: int,
    named: int = 5,
    seed: int = 0,
) -> GenerationComparison:
    """Compare the lists of up to `sample` tracks that both have.

    Raises:
        GenerationError: One of them is not there.
        StoreUnavailableError: Postgres cannot be reached.
    """
    for name in (left, right):
        await generations.find_generation(pool, name)
    common, pairs = await comparison.read_lists_of_both(pool, left, right, sample, seed)
    names, labels = await comparison.read_names_and_labels(pool, _members(pairs), LABELS)
    differences = [_difference(one, other, labels, names) for one, other in pairs]
    gains = sorted(differences, key=lambda each: (-each.gained, each.track_id))
    return GenerationComparison(
        left=left,
        right=right,
        common=common,
        compared=len(pairs),
        overlap=_mean([each.overlap for each in differences]),
        rank_biased=_mean([rank_biased_overlap(one.neighbours, other.neighbours) for one, other in pairs]),
        labels=_agreements(pairs, labels),
        winners=[each for each in gains if each.gained > 0][:named],
        losers=[each for each in reversed(gains) if each.gained < 0][:named],
        furthest=sorted(differences, key=lambda each: (each.overlap, each.track_id))[:named],
    )


Pairs = Sequence[tuple[GenerationList, GenerationList]]
Labels = dict[int, tuple[Any, ...]]


def rank_biased_overlap(left: Sequence[int], right: Sequence[int], persistence: float = PERSISTENCE) -> float:
    """How much two rankings without repetitions agree, the first places most: from 0, of disjoint ones, to 1, of equal ones.

    Webber, Moffat and Zobel, "A similarity measure for indefinite rankings" (2010), extrapolated from the depth of the
    shorter one.
    """
    depth = min(len(left), len(right))
    if not depth:
        return 1.0 if len(left) == len(right) else 0.0
    before: tuple[set[int], set[int]] = set(), set()
    shared, total = 0, 0.0
    for place in range(depth):
        one, other = left[place], right[place]
        shared += 1 if one == other else (one in before[1]) + (other in before[0])
        before[0].add(one)
        before[1].add(other)
        total += shared / (place + 1) * persistence**place
    found: float = (1 - persistence) * total + shared / depth * persistence**depth
    return found


def _members(pairs: Pairs) -> list[int]:
    return sorted({key for pair in pairs for one in pair for key in (one.key, *one.neighbours)})


def _difference(
    one: GenerationList, other: GenerationList, labels: Labels, names: dict[int, str]
) -> TrackDifference:
    count = max(len(one.neighbours), len(other.neighbours))
    shared = len(set(one.neighbours) & set(other.neighbours))
    gained = _alike(other, labels) - _alike(one, labels)
    return TrackDifference(
        names.get(one.key, str(one.key)),
        shared / count if count else 1.0,
        gained,
        [names[key] for key in one.neighbours[:3] if key in names],
        [names[key] for key in other.neighbours[:3] if key in names],
    )


def _alike(one: GenerationList, labels: Labels) -> int:
    """How often a label of the track is one of its first neighbours', too."""
    own = labels.get(one.key, ())
    return sum(
        mine is not None and mine == theirs
        for key in one.neighbours[:_LABELLED]
        for mine, theirs in zip(own, labels.get(key, ()), strict=False)
    )


def _agreements(pairs: Pairs, labels: Labels) -> list[LabelAgreement]:
    found = []
    for at, label in enumerate(LABELS):
        counts = Counter(labels[key][at] for key in labels if labels[key][at] is not None)
        shares: list[tuple[float, float]] = []
        for pair in pairs:
            own = labels.get(pair[0].key, (None,) * len(LABELS))[at]
            if own is None or counts[own] < 2 or not all(one.neighbours for one in pair):
                continue
            shares.append(tuple(_share(one, own, at, labels) for one in pair))  # type: ignore[arg-type]
        if shares:
            left, right = np.array(shares, dtype=np.float64).mean(axis=0).tolist()
            found.append(LabelAgreement(label, len(shares), left, right))
    return found


def _share(one: GenerationList, own: Any, at: int, labels: Labels) -> float:
    first = one.neighbours[:_LABELLED]
    return sum(bool(labels.get(key, (None,) * len(LABELS))[at] == own) for key in first) / len(first)


def _mean(values: Sequence[float]) -> float:
    array: npt.NDArray[np.float64] = np.array(values, dtype=np.float64)
    return float(array.mean()) if len(array) else float("nan")

"""What lists are worth, measured many at a time. An empty place of a list, -1, is a miss."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mess.evaluate.labels import Codes, Label, count_relevant
from streams.strategies import metrics
from streams.strategies.types import Floats, Vectors

Lists = npt.NDArray[np.int64]
HUB_SHARE: Final = 0.01
_BLOCK = 1024


def label_hits(lists: Lists, seeds: Lists, codes: Codes) -> npt.NDArray[np.bool_]:
    """Which places hold a track with the seed's label: bool (m, k); none where the seed has no label."""
    own = codes[seeds][:, None]
    found: npt.NDArray[np.bool_] = (lists >= 0) & (own >= 0) & (codes[lists] == own)
    return found


def precision(lists: Lists, seeds: Lists, label: Label) -> Floats:
    """Share of each list with the seed's label, float64 (m,); NaN where no other track has it."""
    found = label_hits(lists, seeds, label.codes).mean(axis=1)
    return np.where(label.known[seeds], found, np.nan)


def ndcg(lists: Lists, seeds: Lists, label: Label) -> Floats:
    """Discounted gain, nDCG, with gain 1 for the seed's label, float64 (m,); NaN where no other track has it.

    DCG = sum over ranks i of gain / log2(i + 1), by that of a list with as many hits as there can be.
    K. Jarvelin and J. Kekalainen, ACM TOIS 20(4), 2002.
    """
    discounts = 1 / np.log2(np.arange(2, lists.shape[1] + 2))
    gained = label_hits(lists, seeds, label.codes) @ discounts
    possible = np.minimum(count_relevant(label.codes)[seeds], lists.shape[1])
    best = np.concatenate([[np.nan], np.cumsum(discounts)])[possible]
    return np.asarray(gained / best, dtype=np.float64)


def diversity(lists: Lists, vectors: Vectors) -> Floats:
    """Mean of 1 - cosine over the pairs of each list, float64 (m,); 0 below two tracks.

    See `streams.strategies.metrics.intra_list_diversity`, here for many lists.
    """
    made = np.empty(len(lists))
    for start in range(0, len(lists), _BLOCK):
        block = lists[start : start + _BLOCK]
        held = (block >= 0).astype(np.float64)
        wide = vectors[block].astype(np.float64) * held[:, :, None]
        total = wide.sum(axis=1)
        pairs = np.einsum("md,md->m", total, total) - np.einsum("mkd,mkd->m", wide, wide)
        count = held.sum(axis=1)
        made[start : start + _BLOCK] = np.where(count > 1, 1 - pairs / np.maximum(count * (count - 1), 1), 0)
    return made


def closeness(lists: Lists, seeds: Lists, vectors: Vectors) -> Floats:
    """Mean cosine of each list to its seed, float64 (m,)."""
    made = np.empty(len(lists))
    for start in range(0, len(lists), _BLOCK):
        block, own = lists[start : start + _BLOCK], vectors[seeds[start : start + _BLOCK]]
        cosines = np.einsum("mkd,md->mk", vectors[block], own)
        made[start : start + _BLOCK] = _mean_of_held(cosines, block)
    return made


def mean_novelty(lists: Lists, probability: Floats) -> Floats:
    """Mean self-information of each list in bits, float64 (m,). T. Zhou et al., PNAS 107(10), 2010."""
    return _mean_of_held(-np.log2(probability)[lists], lists)


def mean_percentile(lists: Lists, percentile: Floats) -> Floats:
    """Mean popularity percentile of each list, float64 (m,)."""
    return _mean_of_held(percentile[lists], lists)


def _mean_of_held(values: npt.NDArray[np.floating], lists: Lists) -> Floats:
    held = lists >= 0
    return np.asarray((values * held).sum(axis=1) / np.maximum(held.sum(axis=1), 1), dtype=np.float64)


def mean_overlap(one: Lists, other: Lists) -> float:
    """Mean Jaccard index of lists side by side, 0 to 1."""
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    return float(np.mean([metrics.jaccard(_held(first), _held(second)) for first, second in pairs]))


def _held(listed: list[int]) -> list[int]:
    return [row for row in listed if row >= 0]


@dataclass(frozen=True, eq=False, slots=True)
class Exposure:
    """How lists share out their places.

    Attributes:
        coverage: Share of the catalogue that some list holds.
        gini: Inequality of how often tracks are listed, 0 to 1, those never listed included.
        hubs: Tracks in more than 1 % of the lists.
        largest: Share of the lists that hold the most frequent track.
        counts: int64 (n,), in how many lists each track stands.
    """

    coverage: float
    gini: float
    hubs: int
    largest: float
    counts: npt.NDArray[np.int64]


def exposure_of(lists: Lists, catalogue_size: int) -> Exposure:
    """Coverage, concentration and hubs, see `streams.strategies.metrics`."""
    counts = metrics.count_occurrences(lists, catalogue_size)
    found = metrics.hubness(counts, len(lists), share=HUB_SHARE)
    return Exposure(
        coverage=1 - found.orphans / catalogue_size,
        gini=metrics.gini(counts),
        hubs=found.hubs,
        largest=found.largest,
        counts=counts,
    )

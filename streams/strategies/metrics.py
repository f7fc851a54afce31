"""Measures of lists: diversity, novelty, agreement, coverage, concentration, hubs."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.strategies.types import Floats, Vectors


def intra_list_diversity(vectors: Vectors) -> float:
    """Mean of 1 - cosine over all pairs of a list's unit vectors, float32 (k, d); 0 to 2, and 0 below two tracks.

    B. Smyth and P. McClave, "Similarity vs. diversity", ICCBR 2001; C.-N. Ziegler et al., WWW 2005.
    """
    k = len(vectors)
    if k < 2:
        return 0.0
    wide = vectors.astype(np.float64)
    total = wide.sum(axis=0)
    # The sum over all ordered pairs, without the pairs of a vector with itself.
    pairs = float(total @ total) - float(np.einsum("ij,ij->", wide, wide))
    return 1.0 - pairs / (k * (k - 1))


def list_novelty(probabilities: Floats) -> float:
    """Mean self-information of a list, -log2 p in bits, p being each track's share of listening; 0 if empty.

    T. Zhou et al., PNAS 107(10), 2010.
    """
    return float(-np.log2(probabilities).mean()) if len(probabilities) else 0.0


def catalogue_coverage(lists: Iterable[Iterable[Hashable]], catalogue_size: int) -> float:
    """Share of the catalogue that some list holds, 0 to 1.

    M. Ge, C. Delgado-Battenfeld and D. Jannach, RecSys 2010.

    Raises:
        ValueError: the catalogue is empty, or smaller than what the lists hold.
    """
    held = len({track for one in lists for track in one})
    if catalogue_size < max(held, 1):
        raise ValueError(f"a catalogue of {catalogue_size} cannot hold {held} tracks")
    return held / catalogue_size


def jaccard(one: Iterable[Hashable], other: Iterable[Hashable]) -> float:
    """Tracks in both lists by tracks in either, 0 to 1; two empty lists agree."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first | second else 1.0


def rank_biased_overlap(
    one: Sequence[Hashable], other: Sequence[Hashable], *, persistence: float = 0.9
) -> float:
    """Agreement of two rankings, the top counting most: extrapolated RBO, 0 to 1; two empty lists agree.

    W. Webber, A. Moffat and J. Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation
    32: lists of different lengths are fine. A list holds a track once.

    Args:
        one: Tracks, best first.
        other: Tracks, best first.
        persistence: p, above 0 and below 1; the higher, the deeper it looks.

    Raises:
        ValueError: the persistence is out of bounds.
    """
    if not 0 < persistence < 1:
        raise ValueError(f"persistence must be above 0 and below 1, not {persistence}")
    short, long = sorted((one, other), key=len)
    s, length = len(short), len(long)
    if s == 0:
        return 1.0 if length == 0 else 0.0
    in_short: set[Hashable] = set()
    in_long: set[Hashable] = set()
    total, at_short, common = 0.0, 0, 0
    for depth in range(1, length + 1):
        in_long.add(long[depth - 1])
        if depth <= s:
            in_short.add(short[depth - 1])
        common = len(in_short & in_long)
        if depth == s:
            at_short = common
        agreement = common / depth
        if depth > s:  # the unseen end of the short list is taken to agree as its seen part does
            agreement += at_short * (depth - s) / (s * depth)
        total += agreement * persistence**depth
    tail = ((common - at_short) / length + at_short / s) * persistence**length
    return (1 - persistence) / persistence * total + tail


def gini(exposures: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> float:
    """Inequality of how often tracks are listed, (n,), those never listed included: 0 all equal, near 1 one has all.

    G = sum((2 i - n - 1) x_i) / (n sum(x_i)), x ascending, i from 1. G. Shani and A. Gunawardana, "Evaluating
    recommendation systems", Recommender Systems Handbook, 2011.
    """
    n, total = len(exposures), float(exposures.sum())
    if n == 0 or total == 0:
        return 0.0
    ordered = np.sort(exposures).astype(np.float64)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def count_occurrences(lists: npt.NDArray[np.integer], catalogue_size: int) -> npt.NDArray[np.int64]:
    """In how many lists each track stands: int64 (catalogue_size,).

    Args:
        lists: (m, k) or flat, indices into the catalogue; negative ones are empty places.
        catalogue_size: How many tracks there are.
    """
    flat = lists.ravel()
    return np.bincount(flat[flat >= 0], minlength=catalogue_size).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Hubness:
    """How unevenly tracks occur in lists.

    Attributes:
        hubs: Tracks in more than `share` of the lists.
        share: That share.
        largest: The share of lists that hold the most frequent track.
        orphans: Tracks that are in no list.
        skewness: Third standardised moment of the occurrences; 0 is even.
    """

    hubs: int
    share: float
    largest: float
    orphans: int
    skewness: float


def hubness(counts: npt.NDArray[np.int64], list_count: int, *, share: float = 0.01) -> Hubness:
    """Hubs and orphans from `count_occurrences` (n,) in `list_count` lists.

    M. Radovanovic, A. Nanopoulos and M. Ivanovic, "Hubs in space", JMLR 11, 2010.

    Raises:
        ValueError: there are no tracks, or no lists.
    """
    if not len(counts) or list_count < 1:
        raise ValueError("hubness of no lists")
    spread = float(counts.std())
    skewness = float(((counts - counts.mean()) ** 3).mean()) / spread**3 if spread > 0 else 0.0
    return Hubness(
        hubs=int((counts > share * list_count).sum()),
        share=share,
        largest=int(counts.max()) / list_count,
        orphans=int((counts == 0).sum()),
        skewness=skewness,
    )

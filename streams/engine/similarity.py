"""The one definition of similarity, and the order of a list.

Similarity is the cosine of two float32 unit vectors, accumulated in float64 and rounded to float32. Rounded so, it
does not depend on the order of the sum, so that the engine, an audit and a brute-force check agree to the bit.
A list is ordered by similarity, highest first, then by track id.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.engine.types import Scores, Vectors

# A row's k-th best is bounded by that of the maxima of so many groups of its entries for each of the k.
GROUPS_PER_ENTRY = 10


def exact_similarity(vector: Vectors, others: Vectors) -> Scores:
    """Similarity of one vector, float32 (d,), to others, float32 (m, d): float32 (m,)."""
    product: npt.NDArray[np.float64] = others.astype(np.float64) @ vector.astype(np.float64)
    return product.astype(np.float32)


def product_error(dimension: int) -> np.float32:
    """How far a float32 matrix product of unit vectors may be from `exact_similarity`.

    The bound is d * u / (1 - d * u) for any order of summation, u = 2**-24 (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 2nd ed., section 3.1), plus one rounding of the exact value.
    """
    unit = 2.0**-24
    return np.float32(1.01 * (dimension * unit / (1 - dimension * unit) + unit))


def order_candidates(scores: Scores, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """The permutation that sorts candidates into a list: by score, highest first, then by the label of the id.

    Args:
        scores: float32 (..., m).
        labels: int64 (..., m), which compare as the track ids do.

    Returns:
        Indices into the last axis, intp (..., m).
    """
    return np.lexsort((labels, -scores), axis=-1)


def group_maxima(product: Scores, groups: int) -> Scores:
    """The maximum of each of `groups` groups of every row's entries, float32 (m, groups), much faster than a selection.

    The k-th largest maximum is a lower bound of the row's k-th largest entry: k entries reach it. With ten groups for
    each of the k, some 5 % more entries than k do. An entry's group is its place modulo `groups`, so that slots filled
    one after the other, whose tracks are often alike, are in different ones.
    """
    width = product.shape[1]
    if width < 2 * groups:
        return product
    whole = width - width % groups
    maxima = np.empty((len(product), groups), dtype=np.float32)
    for row, highest in zip(product, maxima, strict=True):
        np.maximum.reduce(row[:whole].reshape(-1, groups), axis=0, out=highest)
        rest = highest[: width - whole]
        np.maximum(rest, row[whole:], out=rest)
    return maxima


def order_within(
    groups: npt.NDArray[np.integer[Any]], scores: Scores, labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """The permutation that sorts by group and, within each, into a list: one sort where nothing is equally similar.

    Args:
        groups: Integers (m,), not negative.
        scores: float32 (m,).
        labels: int64 (m,), which compare as the track ids do.

    Returns:
        Indices, intp (m,).
    """
    # The bits of floats compare as the floats do, if those of negative ones are turned round; 0.0 has one form here.
    bits = (np.float32(0) - scores).view(np.int32).astype(np.int64)
    places = (groups.astype(np.int64) << 32) + np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ranks = np.argsort(places)
    ranked = places[ranks]
    tied = ranked[1:] == ranked[:-1]
    if tied.any():
        at = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        equal = ranks[at]
        ranks[at] = equal[np.lexsort((labels[equal], places[equal]))]
    return ranks


def brute_force(
    vectors: Vectors, track_ids: Sequence[str], size: int
) -> tuple[list[list[str]], list[Scores]]:
    """Every list computed afresh from a catalogue, the oracle of tests and audits.

    Args:
        vectors: float32 (n, d), unit length.
        track_ids: n ids.
        size: How many neighbours a list holds at most.

    Returns:
        For every track the ids of its neighbours, and their scores, float32.
    """
    ids: list[list[str]] = []
    scores: list[Scores] = []
    rank_of_id = np.argsort(np.argsort(np.array(track_ids, dtype=object)))
    wide = vectors.astype(np.float64)
    for start in range(0, len(wide), 512):
        block = (wide[start : start + 512] @ wide.T).astype(np.float32)
        for offset, row in enumerate(block):
            own = start + offset
            ranks = np.lexsort((rank_of_id, -row))
            ranks = ranks[ranks != own][:size]
            ids.append([track_ids[i] for i in ranks])
            scores.append(row[ranks])
    return ids, scores

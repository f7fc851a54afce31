"""Turns raw features into the embedding: standardised columns, weighted blocks, one byte a number."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.demo_catalogue.features import BLOCKS
from tools.demo_catalogue.notes import Floats

# Beyond this many standard deviations a feature says no more, and one odd score would set the scale for all.
CLIP = 4.0
# A column that hardly varies over the catalogue must not be blown up to unit variance.
LEAST_DEVIATION = 1e-3
CODE_LIMIT = 127

# Equal but for what `tune` found on one half of the works and the other half confirmed.
WEIGHTS: dict[str, float] = {block.name: 1.0 for block in BLOCKS} | {
    "mode": 0.5,
    "interval_bigrams": 1.5,
    "metrical_positions": 1.5,
}


@dataclass(frozen=True)
class Quantised:
    """Vectors as `codes * scale`: int8 codes of shape (n, d) and a float32 scale of shape (d,)."""

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]

    def decode(self) -> NDArray[np.float32]:
        """Return the vectors, float32, shape (n, d)."""
        return self.codes.astype(np.float32) * self.scale


def standardise(features: Floats) -> Floats:
    """Scale each column of (n, d) to mean 0 and deviation 1, clipped; NaN, where a feature doesn't apply, is the mean."""
    mean = np.nanmean(features, axis=0)
    deviation = np.maximum(np.nanstd(features, axis=0), LEAST_DEVIATION)
    scaled: Floats = np.nan_to_num(np.clip((features - mean) / deviation, -CLIP, CLIP))
    return scaled


def column_weights(weights: dict[str, float]) -> Floats:
    """Return a factor for each column, shape (d,): a block's weight, shared out over its columns.

    Dividing by the root of the block's size gives blocks of equal weight an equal part in the squared length.
    """
    return np.concatenate(
        [np.full(block.size, weights[block.name] / np.sqrt(block.size)) for block in BLOCKS]
    )


def embed(features: Floats, weights: dict[str, float]) -> Floats:
    """Return weighted, standardised vectors of unit length, shape (n, d).

    Raises:
        ValueError: A work has no feature that differs from the mean, so its vector would be zero.
    """
    vectors = standardise(features) * column_weights(weights)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError(f"{int((lengths == 0).sum())} works would have a zero vector")
    unit: Floats = vectors / lengths
    return unit


def quantise(vectors: Floats) -> Quantised:
    """Store each column in one byte, its largest value at the end of the range."""
    largest = np.abs(vectors).max(axis=0)
    scale = np.where(largest > 0, largest / CODE_LIMIT, 1.0).astype(np.float32)
    return Quantised(np.round(vectors / scale).astype(np.int8), scale)

"""Small array functions that every strategy uses."""

import numpy as np
import numpy.typing as npt

from streams.strategies.types import Floats, Vectors

# Rows turned to float64 at a time, so that the copy stays in the processor's cache.
_ROWS = 256


def cosines(vectors: Vectors, others: Vectors) -> npt.NDArray[np.float32]:
    """Cosine of unit vectors, float32 (n, d), to others, float32 (m, d): float32 (n, m).

    Accumulated in float64 and rounded, so that equal vectors have equal cosines whatever their position.
    """
    wide = others.astype(np.float64).T
    made = np.empty((len(vectors), len(others)), dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        made[start : start + _ROWS] = vectors[start : start + _ROWS].astype(np.float64) @ wide
    return made


def min_max(values: npt.NDArray[np.floating]) -> Floats:
    """Values (n,) scaled to 0..1 by their minimum and maximum; all 1 if they are equal.

    Min-max normalisation before a weighted sum: J. H. Lee, "Analyses of multiple evidence combination",
    SIGIR 1997.
    """
    wide = values.astype(np.float64)
    if not len(wide):
        return wide
    low, high = wide.min(), wide.max()
    if high - low < 1e-9:
        return np.ones_like(wide)
    return np.asarray((wide - low) / (high - low), dtype=np.float64)

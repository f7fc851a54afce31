"""Candidates from a few plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streams.strategies import CandidateColumns, Candidates


def unit(rows: Any) -> np.ndarray:
    """Rows scaled to unit length, float32."""
    wide = np.asarray(rows, dtype=np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


def candidates(
    similarity: Sequence[float],
    rows: Sequence[Mapping[str, Any]] | None = None,
    **more: Any,
) -> Candidates:
    """Candidates with keys 0, 1, 2, ... whose labels are in the same order."""
    n = len(similarity)
    rows = rows or [{}] * n
    fields = {name for row in rows for name in row}
    return Candidates(
        keys=more.pop("keys", np.arange(n, dtype=np.int64)),
        labels=more.pop("labels", np.arange(n, dtype=np.int64)),
        similarity=np.asarray(similarity, dtype=np.float32),
        metadata=CandidateColumns(rows, fields),
        **more,
    )


def around(query: np.ndarray, vectors: np.ndarray, rows: Any = None, **more: Any) -> Candidates:
    """Candidates with vectors, whose similarity is the cosine to `query`."""
    return candidates(vectors @ query, rows, vectors=vectors, **more)

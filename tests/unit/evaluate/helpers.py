"""A tiny catalogue whose lists can be told by hand."""

from typing import Any

import numpy as np

from mess.evaluate.works import READ, Works
from streams.strategies import CandidateColumns


def works(vectors: Any, rows: list[dict[str, Any]] | None = None, **more: Any) -> Works:
    """Tracks t00, t01, ... with unit vectors and the facts given."""
    wide = np.asarray(vectors, dtype=np.float64)
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return Works(
        name="tiny",
        track_ids=[f"t{i:02d}" for i in range(len(unit))],
        vectors=unit,
        columns=CandidateColumns(rows or [{}] * len(unit), READ),
        **more,
    )


def groups(each: int = 12, dimension: int = 8, spread: float = 0.3) -> Works:
    """Three groups of tracks around three directions; the form is the group, the key is drawn, the era tells the form."""
    random = np.random.default_rng(0)
    centres = np.eye(3, dimension)
    vectors, rows = [], []
    for group in range(3):
        for _ in range(each):
            vectors.append(centres[group] + spread * random.normal(size=dimension))
            key = str(random.choice(["C major", "G major"]))
            rows.append({"form": f"form {group}", "era": f"era {group}", "key_signature": key})
    return works(vectors, rows)

"""Vectors that behave like embeddings: few directions matter, and neighbourhoods have structure."""

import time
from collections.abc import Sequence

import numpy as np

from streams.contracts import track_key
from streams.engine.types import EVENT, Keys, TrackBatch, Vectors

# Learned embeddings of audio spread over some tens of directions, however many columns they have.
LATENT = 48


def vectors(count: int, dimension: int, seed: int = 0) -> Vectors:
    """Unit vectors, float32 (count, dimension): clusters in a latent space, projected up, with noise."""
    world = np.random.default_rng(7)
    latent = min(LATENT, dimension)
    up = world.standard_normal((latent, dimension), dtype=np.float32)
    centres = world.standard_normal((200, latent), dtype=np.float32)
    rng = np.random.default_rng(seed)
    made = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, 8192):
        part = made[start : start + 8192]
        points = centres[rng.integers(0, len(centres), len(part))]
        points = points + 0.7 * rng.standard_normal(points.shape, dtype=np.float32)
        part[:] = points @ up + 0.3 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


def track_ids(count: int, prefix: str = "bench") -> list[str]:
    """Ids."""
    return [f"{prefix}/{i:07d}" for i in range(count)]


def keys(names: Sequence[str]) -> Keys:
    """Their keys, int64."""
    return np.array([track_key(name) for name in names], dtype=np.int64)


def batch(numbers: Keys, names: list[str], rows: Vectors) -> TrackBatch:
    """A batch of inserts, as the worker hands it to the engine."""
    events = np.zeros(len(numbers), dtype=EVENT)
    events["offset"], events["time"] = np.arange(len(numbers)), time.time_ns() // 1_000
    nothing = np.empty(0, dtype=np.int64)
    return TrackBatch(numbers, names, rows, events, nothing, np.empty(0, dtype=EVENT))

"""Batches from plain Python, and the oracle."""

from collections.abc import Mapping

import numpy as np

from streams.engine.exact import ExactEngine
from streams.engine.similarity import brute_force
from streams.engine.types import EVENT, TrackBatch


def key_of(track_id: str) -> int:
    """A key for a test's track id; any injective function would do."""
    return int.from_bytes(track_id.encode()[:7].ljust(7, b"\0"), "little") + 1


def unit(vector: object) -> np.ndarray:
    """The vector scaled to unit length, float32, as validation does it."""
    wide = np.asarray(vector, dtype=np.float64)
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def partition_of(track_id: str) -> int:
    """The partition of a test's track: one of four."""
    return key_of(track_id) % 4


def batch(
    upserts: Mapping[str, np.ndarray], deletes: list[str] | None = None, *, dimension: int, first: int = 0
) -> TrackBatch:
    """A batch whose events are numbered in order from `first` on: deletes first."""
    deletes = deletes or []
    events = np.zeros(len(deletes) + len(upserts), dtype=EVENT)
    events["offset"] = first + np.arange(len(events))
    events["partition"] = [partition_of(track_id) for track_id in [*deletes, *upserts]]
    return TrackBatch(
        keys=np.array([key_of(t) for t in upserts], dtype=np.int64),
        track_ids=list(upserts),
        vectors=np.array(list(upserts.values()), dtype=np.float32).reshape(-1, dimension),
        events=events[len(deletes) :],
        deleted=np.array([key_of(t) for t in deletes], dtype=np.int64),
        deleted_events=events[: len(deletes)],
    )


class KeptLists:
    """What a store would hold: the lists as taken from the engine, change by change."""

    def __init__(self) -> None:
        self.lists: dict[int, list[tuple[int, float]]] = {}

    def take(self, engine: ExactEngine) -> None:
        """Apply what has changed."""
        changes = engine.take_changes()
        for key in changes.deleted.tolist():
            self.lists.pop(key, None)
        for i, key in enumerate(changes.keys.tolist()):
            length = int(changes.lengths[i])
            pairs = zip(
                changes.neighbours[i, :length].tolist(), changes.scores[i, :length].tolist(), strict=True
            )
            self.lists[key] = list(pairs)


def oracle(catalogue: Mapping[str, np.ndarray], size: int) -> dict[int, list[tuple[int, float]]]:
    """The lists of a catalogue, computed by brute force."""
    names = list(catalogue)
    if not names:
        return {}
    ids, scores = brute_force(np.array([catalogue[n] for n in names]), names, size)
    return {
        key_of(name): [(key_of(i), float(s)) for i, s in zip(ids[n], scores[n], strict=True)]
        for n, name in enumerate(names)
    }

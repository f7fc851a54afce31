"""What a search takes and gives: plain arrays, cheap to send between processes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streams.neighbours.types import Keys, Scores


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found for each of q queries, best first.

    Attributes:
        keys: int64 (q, count), past `lengths` zero.
        scores: float32 (q, count), cosine similarity, exact for each track named; past `lengths` zero.
        lengths: int64 (q,), how many of the places are used: less than `count` only if there are no more tracks.
        exact: Whether an exact scan gave all of it; else a true neighbour may be missing.
    """

    keys: Keys
    scores: Scores
    lengths: npt.NDArray[np.int64]
    exact: bool


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search process works.

    Attributes:
        exact_below: With fewer tracks than this there is no index: the exact scan is fast enough, and exact.
        rebuild_share: The index is rebuilt when tracks newer than it and tombstones in it together are more than this
            share of it.
        leaf_budget: Leaves of the search tree that a query starts from.
        epsilon: How much further than the worst of the best found so far a query still looks, as a share.
        threads: Threads of an index build and of matrix products; None for as many as there are cores.
        cache_dir: Where compiled code is kept, so that the next start need not compile; None for the library's own.
    """

    exact_below: int = 5_000
    rebuild_share: float = 0.1
    leaf_budget: int = 16
    epsilon: float = 0.15
    threads: int | None = None
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class SearchStats:
    """A look inside.

    Attributes:
        tracks: In the catalogue.
        index_size: Tracks in the index when it was built; 0 while there is none.
        index_age: Seconds since the catalogue was as the index has it; None while there is none.
        newer: Tracks that the index has not, or has with another vector: they are scanned.
        tombstones: Rows of the index whose track is gone or has another vector.
        building: Whether an index is being built.
        builds: Indexes built since the start.
        failed_builds: Builds that ended without an index since the start.
        recall: Recall@50 of the index, measured on a sample when it was built; None while there is none.
        memory_bytes: Held by vectors, keys and the index in memory, in all processes of the search.
        seconds: Spent by phase since the start.
    """

    tracks: int
    index_size: int
    index_age: float | None
    newer: int
    tombstones: int
    building: bool
    builds: int
    failed_builds: int
    recall: float | None
    memory_bytes: int
    seconds: dict[str, float]

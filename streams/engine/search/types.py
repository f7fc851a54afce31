"""What a search takes and gives: plain arrays, cheap to send between processes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streams.engine.types import Keys, Scores


@dataclass(frozen=True, slots=True)
class SearchMatches:
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
        rest: After a build none is begun for this many times as long as it took.
        retry: After a build that failed, or an index that ended, none is begun for so many seconds: doubled with each
            further build that fails.
        recall: Recall@50 that an index is to have. Queries for which it has less are scanned exactly.
        leaf_budget: Leaves of the search tree that a query starts from, at least: doubled as often as `recall` wants.
        epsilon: How much further than the worst of the best found so far a query still looks, as a share.
        cache_dir: Where compiled code is kept, so that the next start need not compile; None for the library's own
            place.
    """

    exact_below: int = 20_000
    rebuild_share: float = 0.1
    rest: float = 2.0
    retry: float = 5.0
    recall: float = 0.99
    leaf_budget: int = 16
    epsilon: float = 0.05
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
        lost: Processes of indexes that have ended unasked since the start; their cells go on answering.
        last_error: Why the last of these failed or ended; None if none has.
        recall: Recall@50 of the queries that cells answer, measured on a sample when they were made; None while there
            are none.
        answered_share: The share of that sample that they answer; the others are too hard, and scanned.
        graph_recall: As `recall`, of what the search graph can answer.
        graph_share: As `answered_share`, of the search graph.
        leaf_budget: Leaves that a search of the graph starts from; 0 while there is no index.
        approximate_queries: Answered by cells or graph and the scan of what is newer, since the start.
        graph_queries: Those of them that the graph answered, as the shorter way.
        exact_queries: Answered by an exact scan, since the start.
        memory_bytes: Held by vectors, keys, graph and index, in all processes of the search; while an index is being
            built, a second copy comes to it.
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
    lost: int
    last_error: str | None
    recall: float | None
    answered_share: float | None
    graph_recall: float | None
    graph_share: float | None
    leaf_budget: int
    approximate_queries: int
    graph_queries: int
    exact_queries: int
    memory_bytes: int
    seconds: dict[str, float]

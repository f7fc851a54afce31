"""The input and output of searches: plain arrays, cheap to send between processes."""

from dataclasses import dataclass

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
        exact: Whether an exhaustive search gave all of it; else a true neighbour may be missing.
    """

    keys: Keys
    scores: Scores
    lengths: npt.NDArray[np.int64]
    exact: bool


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search process works.

    Attributes:
        exact_below: With fewer tracks than this there is no index: exhaustive search is fast enough.
        rebuild_share: The index is rebuilt when tracks newer than it and tombstones in it together are more than this
            share of it.
        rest: After a build, none begins for so many times its duration.
        retry: After a build that failed, none is begun for so many seconds: doubled with each further build that fails.
        recall: Target recall@50 of an index. Queries that would miss it are searched exhaustively.
    """

    exact_below: int = 20_000
    rebuild_share: float = 0.1
    rest: float = 2.0
    retry: float = 5.0
    recall: float = 0.99


@dataclass(frozen=True, slots=True)
class SearchStats:
    """A look inside.

    Attributes:
        tracks: In the catalogue.
        index_size: Tracks in the index when it was built; 0 while there is none.
        index_age: Seconds since the catalogue was as the index has it; None while there is none.
        newer: Tracks that the index lacks, or has with another vector: they are searched exhaustively.
        tombstones: Rows of the index whose track was withdrawn or has another vector.
        building: Whether an index is being built.
        builds: Indexes built since the start.
        failed_builds: Builds that ended without an index since the start.
        last_error: Why the last of these failed; None if none has.
        recall: Recall@50 of the queries that the inverted file answers, measured on a sample when it was built; None
            without one.
        answered_share: The share of that sample that it answers; the others are too hard, and searched exhaustively.
        approximate_queries: Answered by the inverted file, since the start.
        exact_queries: Answered by exhaustive search, since the start.
        memory_bytes: Held by vectors, keys and index; twice as much during a build.
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
    last_error: str | None
    recall: float | None
    answered_share: float | None
    approximate_queries: int
    exact_queries: int
    memory_bytes: int
    seconds: dict[str, float]

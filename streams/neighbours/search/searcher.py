"""The catalogue and its search, in whatever process it is."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from streams.neighbours.search import scan
from streams.neighbours.search.rows import TrackRows
from streams.neighbours.search.types import Found, SearchSettings, SearchStats
from streams.neighbours.types import EMPTY, Keys, Scores, TrackBatch, Vectors

# A vector whose length differs from 1 by more than float32 rounding is scaled.
LENGTH_ERROR = 1e-6


class Searcher:
    """Holds the vectors of the catalogue and finds the most similar ones. Not safe to call from several threads.

    Args:
        dimension: d of the vectors.
        settings: How it works.
    """

    def __init__(self, dimension: int, settings: SearchSettings) -> None:
        self.tracks = TrackRows(dimension)
        self._settings = settings
        self._seconds: dict[str, float] = defaultdict(float)

    def load(self, keys: Keys, track_ids: list[str], vectors: Vectors) -> None:
        """Add a part of a catalogue; a track that is there already gets this vector."""
        with self._timed("load"):
            self.tracks.put(keys, track_ids, vectors)

    def apply(self, batch: TrackBatch) -> None:
        """Bring the catalogue up to date with `batch`."""
        with self._timed("apply"):
            self.tracks.drop(batch.deleted)
            self.tracks.put(batch.keys, batch.track_ids, batch.vectors)

    def search(self, queries: Vectors, count: int, among: Keys | None, without: Keys | None) -> Found:
        """Find the tracks most similar to each query. See `SearchProcess.search`."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        queries = self._checked(queries)
        left_out = self._known(without)
        if among is not None:
            with self._timed("scan_among"):
                rows = np.setdiff1d(self._known(among), left_out)
                found = scan.among(self.tracks, queries, count, rows)
                return self._found(found, len(queries), count, exact=True)
        with self._timed("scan"):
            found = scan.whole(self.tracks, queries, count, left_out)
            return self._found(found, len(queries), count, exact=True)

    def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks. See `SearchProcess.vectors`."""
        rows = self.tracks.rows_of(keys)
        known = rows != EMPTY
        vectors = np.zeros((len(keys), self.tracks.dimension), dtype=np.float32)
        vectors[known] = self.tracks.vectors[rows[known]]
        return vectors, known

    def stats(self) -> SearchStats:
        """Counts and times, at any moment."""
        return SearchStats(
            tracks=len(self.tracks),
            index_size=0,
            index_age=None,
            newer=len(self.tracks),
            tombstones=0,
            building=False,
            builds=0,
            failed_builds=0,
            recall=None,
            memory_bytes=self.tracks.memory_bytes,
            seconds=dict(self._seconds),
        )

    def _checked(self, queries: Vectors) -> Vectors:
        """Queries as float32 (q, d) of unit length; those that are already keep every bit."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.tracks.dimension:
            raise ValueError(f"queries must be (q, {self.tracks.dimension}), not {queries.shape}")
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError("a query is zero or not finite")
        if (np.abs(lengths - 1) > LENGTH_ERROR).any():
            scaled = np.where(np.abs(lengths - 1) > LENGTH_ERROR, queries / lengths, queries)
            queries = scaled.astype(np.float32)
        return queries

    def _known(self, keys: Keys | None) -> npt.NDArray[np.int32]:
        """The rows of those keys that are in the catalogue, none twice."""
        rows = self.tracks.rows_of(np.unique(keys)) if keys is not None else np.empty(0, dtype=np.int32)
        known: npt.NDArray[np.int32] = rows[rows != EMPTY]
        return known

    def _found(
        self, found: Iterable[tuple[scan.Rows, Scores]], queries: int, count: int, *, exact: bool
    ) -> Found:
        keys = np.zeros((queries, count), dtype=np.int64)
        their_scores = np.zeros((queries, count), dtype=np.float32)
        lengths = np.zeros(queries, dtype=np.int64)
        for i, (rows, scores) in enumerate(found):
            lengths[i] = len(rows)
            keys[i, : len(rows)], their_scores[i, : len(rows)] = self.tracks.keys[rows], scores
        return Found(keys, their_scores, lengths, exact)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start

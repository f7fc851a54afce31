"""Searches the catalogue, within the search process or in a process of its own."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.engine.search import scan
from streams.engine.search.index_build import IndexBuild
from streams.engine.search.index_supervisor import Build, SearchIndexSupervisor
from streams.engine.search.metadata import MetadataRow
from streams.engine.search.quality import RECALL_AT
from streams.engine.search.rows import TrackRows
from streams.engine.search.types import SearchMatches, SearchSettings, SearchStats
from streams.engine.search.upper import Rows, UpperBounds
from streams.engine.types import EMPTY, Keys, Scores, TrackBatch, Vectors

# A vector whose length differs from 1 by more than float32 rounding is scaled.
LENGTH_ERROR = 1e-6
# A query that would probe more of the index than this is searched exhaustively, which costs less per row.
MOST_LOOKED_AT = 0.5


class Searcher:
    """Holds the vectors of the catalogue and finds the most similar ones. Not thread-safe.

    Args:
        dimension: d of the vectors.
        settings: How it works.
        start: Starts the build of an index.
        fields: Of the metadata that tracks come with.
    """

    def __init__(
        self,
        dimension: int,
        settings: SearchSettings,
        start: Callable[..., Build] = IndexBuild,
        fields: Sequence[str] = (),
    ) -> None:
        self.tracks = TrackRows(dimension, fields)
        self.supervisor = SearchIndexSupervisor(self.tracks, settings, start)
        self._approximate_queries = self._exact_queries = 0
        self._seconds: dict[str, float] = defaultdict(float)

    def load(
        self,
        keys: Keys,
        track_ids: list[str],
        vectors: Vectors,
        metadata: Sequence[MetadataRow] | None = None,
        offsets: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Add a part of a catalogue; a track that is there already gets this vector. See `SearchProcess.load`."""
        with self._timed("load"):
            self.tracks.put(keys, track_ids, vectors, metadata, offsets)
        self.supervisor.hold_off()

    def apply(self, batch: TrackBatch) -> None:
        """Bring the catalogue up to date with `batch`."""
        with self._timed("apply"):
            self.tracks.drop(batch.deleted)
            offsets = batch.events["offset"]
            self.tracks.put(batch.keys, batch.track_ids, batch.vectors, batch.metadata, offsets)

    def describe(self, keys: Keys, metadata: Sequence[MetadataRow]) -> Keys:
        """Give tracks other metadata. See `SearchProcess.describe`."""
        with self._timed("apply"):
            return self.tracks.describe(keys, metadata)

    def search(self, queries: Vectors, count: int, among: Keys | None, without: Keys | None) -> SearchMatches:
        """Find the tracks most similar to each query. See `SearchProcess.search`."""
        return self._found(self._search(queries, count, among, without))

    def _search(
        self, queries: Vectors, count: int, among: Keys | None = None, without: Keys | None = None
    ) -> "_FoundRows":
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        queries = self.checked(queries)
        answers = _FoundRows(len(queries), count)
        left_out = self._known(without)
        reduced = self.tracks.columns.of(queries)
        if among is not None:
            with self._timed("scan_among"):
                rows = np.setdiff1d(self._known(among), left_out)
                self._answer(
                    answers, queries, range(len(queries)), scan.bounds_of_rows(self.tracks, reduced, rows)
                )
            return answers
        asked = _QueryBatch(queries, reduced, max(count, RECALL_AT), self._hidden(left_out))
        hard = np.arange(len(queries))
        # For a large part of the catalogue, the inverted file saves nothing.
        if asked.count <= self.supervisor.size // 10:
            step = max(1, scan.PRODUCT_VALUES // self.supervisor.size)
            parts = [slice(start, start + step) for start in range(0, len(queries), step)]
            found = [self._approximate(answers, asked, part) for part in parts]
            hard = np.concatenate([*found, hard[:0]])
        with self._timed("scan"):
            uppers = scan.bounds_of_all(self.tracks, reduced[hard], asked.hidden)
            self._answer(answers, queries, hard.tolist(), uppers)
        self._exact_queries += len(hard)
        self._approximate_queries += len(queries) - len(hard)
        answers.exact = len(hard) == len(queries)
        return answers

    def _found(self, answers: "_FoundRows") -> SearchMatches:
        used = np.arange(answers.count) < answers.lengths[:, None]
        keys = np.zeros(used.shape, dtype=np.int64)
        keys[used] = self.tracks.keys[answers.rows[used]]
        return SearchMatches(keys, answers.scores, answers.lengths, answers.exact)

    def _answer(
        self, answers: "_FoundRows", queries: Vectors, which: Sequence[int], uppers: Iterable[UpperBounds]
    ) -> None:
        for i, upper in zip(which, uppers, strict=True):
            rows, scores = scan.best_by_bounds(self.tracks, queries[i], upper, answers.count)
            answers.put(i, rows, scores)

    def _approximate(self, answers: "_FoundRows", asked: "_QueryBatch", part: slice) -> npt.NDArray[np.intp]:
        """Answer some queries by inverted file, and newer tracks exhaustively; returns the unanswered queries."""
        numbers = np.arange(len(asked.queries))[part]
        reduced = asked.reduced[part]
        with self._timed("cells"):
            probe = self.supervisor.look(reduced, asked.count, asked.hidden)
        if probe is None:
            return numbers
        newer: list[UpperBounds] = []
        if self.tracks.used > self.supervisor.size:
            with self._timed("newer"):
                newer = list(scan.bounds_of_all(self.tracks, reduced, asked.hidden, self.supervisor.size))
        done = np.zeros(len(numbers), dtype=np.bool_)
        which = np.flatnonzero(probe.left <= self.supervisor.size * MOST_LOOKED_AT)
        with self._timed("cells"):
            found = probe.finish(which, self.tracks.columns.excess)
            for i, upper in zip(which.tolist(), found, strict=True):
                both = upper.joined(newer[i]) if newer else upper
                rows, scores = scan.best_by_bounds(self.tracks, asked.queries[numbers[i]], both, asked.count)
                if len(rows) == asked.count and self.supervisor.trusts_cells(scores):
                    best = slice(answers.count)
                    answers.put(int(numbers[i]), rows[best], scores[best])
                    done[i] = True
        return numbers[~done]

    def _hidden(self, left_out: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
        """Rows without a track, and rows to leave out, ascending."""
        dead = self.tracks.dead()
        return np.union1d(dead, left_out).astype(np.intp) if len(left_out) else dead

    def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks. See `SearchProcess.vectors`."""
        rows = self.tracks.rows_of(keys)
        known = rows != EMPTY
        vectors = np.zeros((len(keys), self.tracks.dimension), dtype=np.float32)
        vectors[known] = self.tracks.vectors[rows[known]]
        return vectors, known

    def stats(self) -> SearchStats:
        """Counts and times, at any moment."""
        supervisor, index = self.supervisor, self.supervisor.index
        built = index.report.seconds if index else {}
        return SearchStats(
            tracks=len(self.tracks),
            index_size=supervisor.size,
            index_age=supervisor.age,
            newer=supervisor.newer,
            tombstones=supervisor.tombstones,
            building=supervisor.building,
            builds=supervisor.builds,
            failed_builds=supervisor.failed_builds,
            last_error=supervisor.last_error,
            recall=index.report.quality.recall if index else None,
            answered_share=index.report.quality.share if index else None,
            approximate_queries=self._approximate_queries,
            exact_queries=self._exact_queries,
            memory_bytes=self.tracks.memory_bytes + (index.report.cells.memory_bytes if index else 0),
            seconds={**self._seconds, **{f"build_{name}": spent for name, spent in built.items()}},
        )

    def checked(self, queries: Vectors, *, shorter: bool = False) -> Vectors:
        """Queries as float32 (q, d) of unit length; unit vectors, and with `shorter` shorter ones, stay the same to the bit."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.tracks.dimension:
            raise ValueError(f"queries must be (q, {self.tracks.dimension}), not {queries.shape}")
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError("a query is zero or not finite")
        wrong = (lengths > 1 + LENGTH_ERROR) | ((lengths < 1 - LENGTH_ERROR) & (not shorter))
        if wrong.any():
            scaled = np.where(wrong, queries / lengths, queries)
            queries = scaled.astype(np.float32)
        return queries

    def _known(self, keys: Keys | None) -> npt.NDArray[np.int32]:
        """The rows of those keys that are in the catalogue, none twice."""
        rows = self.tracks.rows_of(np.unique(keys)) if keys is not None else np.empty(0, dtype=np.int32)
        known: npt.NDArray[np.int32] = rows[rows != EMPTY]
        return known

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class _QueryBatch:
    """Queries, float32 (q, d), the same in the catalogue's columns, how many to look for at least, and rows to leave out."""

    queries: Vectors
    reduced: Vectors
    count: int
    hidden: npt.NDArray[np.intp]


class _FoundRows:
    """What was found for each of q queries: rows, int32 (q, count), past `lengths` zero, and `SearchMatches`'s other members."""

    def __init__(self, queries: int, count: int) -> None:
        self.count = count
        self.rows = np.zeros((queries, count), dtype=np.int32)
        self.scores = np.zeros((queries, count), dtype=np.float32)
        self.lengths = np.zeros(queries, dtype=np.int64)
        self.exact = True

    def put(self, query: int, rows: Rows, scores: Scores) -> None:
        self.lengths[query] = len(rows)
        self.rows[query, : len(rows)], self.scores[query, : len(rows)] = rows, scores

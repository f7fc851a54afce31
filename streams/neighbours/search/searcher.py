"""The catalogue and its search, in whatever process it is."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from streams.neighbours.search import scan
from streams.neighbours.search.index_process import RECALL_AT, IndexProcess
from streams.neighbours.search.keeper import Index, IndexKeeper
from streams.neighbours.search.rows import TrackRows
from streams.neighbours.search.types import Found, LookedUp, SearchSettings, SearchStats
from streams.neighbours.similarity import exact_similarity
from streams.neighbours.types import EMPTY, Keys, Scores, TrackBatch, Vectors

# A vector whose length differs from 1 by more than float32 rounding is scaled.
LENGTH_ERROR = 1e-6


class Searcher:
    """Holds the vectors of the catalogue and finds the most similar ones. Not safe to call from several threads.

    Args:
        dimension: d of the vectors.
        settings: How it works.
        start: Starts the process of an index.
    """

    def __init__(
        self, dimension: int, settings: SearchSettings, start: Callable[..., Index] = IndexProcess
    ) -> None:
        self.tracks = TrackRows(dimension)
        self.keeper = IndexKeeper(self.tracks, settings, start)
        self._approximate_queries = self._exact_queries = 0
        self._seconds: dict[str, float] = defaultdict(float)

    def load(self, keys: Keys, track_ids: list[str], vectors: Vectors) -> None:
        """Add a part of a catalogue; a track that is there already gets this vector."""
        with self._timed("load"):
            self.tracks.put(keys, track_ids, vectors)
        self.keeper.hold_off()

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
        answers = _Answers(len(queries), count)
        left_out = self._known(without)
        if among is not None:
            with self._timed("scan_among"):
                rows = np.setdiff1d(self._known(among), left_out)
                candidates = scan.among(self.tracks, queries, count, rows)
                self._rank(answers, np.arange(len(queries)), queries, candidates)
            return answers.found(exact=True)
        hard = self._approximate(answers, queries, left_out)
        with self._timed("scan"):
            candidates = scan.whole(self.tracks, queries[hard], count, left_out)
            self._rank(answers, hard, queries[hard], candidates)
        self._exact_queries += len(hard)
        self._approximate_queries += len(queries) - len(hard)
        return answers.found(exact=len(hard) == len(queries))

    def _rank(
        self,
        answers: "_Answers",
        which: npt.NDArray[np.intp],
        queries: Vectors,
        candidates: Iterable[scan.Rows],
    ) -> None:
        for i, query, rows in zip(which.tolist(), queries, candidates, strict=True):
            scores = exact_similarity(query, self.tracks.vectors[rows])
            best = scan.ranked(self.tracks, rows, scores, answers.count)
            answers.put(i, self.tracks.keys[rows[best]], scores[best])

    def _approximate(
        self, answers: "_Answers", queries: Vectors, left_out: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.intp]:
        """Answer by the index and a scan of what is newer; return which queries that cannot answer, intp (m,)."""
        everyone = np.arange(len(queries))
        # The index's recall is known for so many.
        count = max(answers.count, RECALL_AT)
        if count > self.keeper.size // 10:
            return everyone
        with self._timed("index"):
            near = self.keeper.query(queries, count, min(len(left_out), count))
        if near is None:
            return everyone
        with self._timed("rescore"):
            usable = (near != EMPTY) & self.tracks.alive[near]
            if len(left_out):
                usable &= ~np.isin(near, left_out)
            newer = scan.whole(self.tracks, queries, answers.count, left_out, self.keeper.size)
            hard = []
            for i, (query, fresh) in enumerate(zip(queries, newer, strict=True)):
                old = near[i][usable[i]]
                rows = np.concatenate([old, fresh])
                scores = exact_similarity(query, self.tracks.vectors[rows])
                if len(old) < count or not self.keeper.trusts(scores[: len(old)]):
                    hard.append(i)
                    continue
                best = scan.ranked(self.tracks, rows, scores, answers.count)
                answers.put(i, self.tracks.keys[rows[best]], scores[best])
        return np.array(hard, dtype=np.intp)

    def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors of some tracks. See `SearchProcess.vectors`."""
        rows = self.tracks.rows_of(keys)
        known = rows != EMPTY
        vectors = np.zeros((len(keys), self.tracks.dimension), dtype=np.float32)
        vectors[known] = self.tracks.vectors[rows[known]]
        return vectors, known

    def look_up(
        self, keys: Keys, queries: Vectors | None, count: int, wanted: npt.NDArray[np.bool_]
    ) -> LookedUp:
        """Vectors of some tracks and a search, in one call. See `SearchProcess.look_up`."""
        vectors, known = self.vectors(keys)
        if queries is None:
            return LookedUp(vectors, known, None, [])
        found = self.search(queries, count, None, None)
        brought = [
            self.vectors(found.keys[i, : found.lengths[i]])[0] for i in np.flatnonzero(wanted).tolist()
        ]
        return LookedUp(vectors, known, found, brought)

    def stats(self) -> SearchStats:
        """Counts and times, at any moment."""
        keeper, report = self.keeper, self.keeper.report
        built = report.seconds if report else {}
        return SearchStats(
            tracks=len(self.tracks),
            index_size=keeper.size if report else 0,
            index_age=keeper.age,
            newer=keeper.newer,
            tombstones=keeper.tombstones,
            building=keeper.building,
            builds=keeper.builds,
            failed_builds=keeper.failed_builds,
            last_error=keeper.last_error,
            recall=report.recall if report else None,
            answered_share=report.share if report else None,
            leaf_budget=report.leaf_budget if report else 0,
            approximate_queries=self._approximate_queries,
            exact_queries=self._exact_queries,
            memory_bytes=self.tracks.memory_bytes + keeper.memory_bytes,
            seconds={**self._seconds, **{f"build_{name}": spent for name, spent in built.items()}},
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

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - start


class _Answers:
    """`Found`, query by query."""

    def __init__(self, queries: int, count: int) -> None:
        self.count = count
        self._keys = np.zeros((queries, count), dtype=np.int64)
        self._scores = np.zeros((queries, count), dtype=np.float32)
        self._lengths = np.zeros(queries, dtype=np.int64)

    def put(self, query: int, keys: Keys, scores: Scores) -> None:
        self._lengths[query] = len(keys)
        self._keys[query, : len(keys)], self._scores[query, : len(keys)] = keys, scores

    def found(self, *, exact: bool) -> Found:
        return Found(self._keys, self._scores, self._lengths, exact)

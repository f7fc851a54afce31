"""What takes part: this engine with its search, and other indexes as their documentation sets them up."""

import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import psutil

from benchmarks.maintenance_peers import BUILD_WIDTH, LINKS, SEARCH_WIDTH
from benchmarks.streaming.pgvector import PgvectorTable
from benchmarks.streaming.protocols import Numbers, StreamingProtocol
from streams.engine import acceleration
from streams.engine.approximate import ApproximateEngine
from streams.engine.search import SearchSettings
from streams.engine.search.searcher import Searcher
from streams.engine.types import EVENT, TrackBatch, Vectors

PROBES = 16
# Vectors for each cell that faiss wants to be trained on.
TRAINED = 39
NOT_THERE = -1
# As deep as lists are compared.
LISTED = 10


class Contestant(Protocol):
    """An index that changes. A tag that is inserted again gets the new vector."""

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """Take vectors in, float32 (m, d); `tags` (m,) are distinct."""

    def delete(self, tags: Numbers) -> None:
        """Drop tags that are there."""

    def search(self, queries: Vectors, count: int) -> Numbers:
        """The tags nearest to each query, (q, count), -1 where fewer are found."""

    def lists(self, tags: Numbers, vectors: Vectors, count: int) -> Numbers:
        """The tags nearest to each of these tracks but itself, (m, count)."""

    def beside(self) -> list[psutil.Process]:
        """Processes beside this one that work for it."""

    def close(self) -> None:
        """End them."""


class _Alone:
    """Works in this process."""

    def beside(self) -> list[psutil.Process]:
        return []

    def close(self) -> None:
        pass


class _Queried(_Alone):
    """Lists are what a query for the track's own vector gives."""

    def lists(self: Contestant, tags: Numbers, vectors: Vectors, count: int) -> Numbers:
        found = self.search(vectors, count + 1)
        others = np.argsort(found == tags[:, None], axis=1, kind="stable")[:, :count]
        return np.take_along_axis(found, others, axis=1)


class OurEngine(_Alone):
    """The engine that keeps lists, and the search beside it, which scans: both exact, in one process."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        dimension = protocol.vectors.shape[1]
        self._engine = ApproximateEngine(dimension)
        self._engine.accelerate(acceleration.load_kernels())
        self._searcher = Searcher(dimension, SearchSettings(exact_below=1_000_000_000))
        self._lists: dict[int, Numbers] = {}
        self._offset = 0

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self._apply(tags, vectors, tags[:0])

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        self._apply(tags[:0], np.empty((0, self._searcher.tracks.dimension), np.float32), tags)

    def _apply(self, tags: Numbers, vectors: Vectors, gone: Numbers) -> None:
        events = np.zeros(len(tags) + len(gone), dtype=EVENT)
        events["offset"] = np.arange(self._offset, self._offset + len(events))
        self._offset += len(events)
        names = [f"{tag:08d}" for tag in tags.tolist()]
        batch = TrackBatch(tags, names, vectors, events[: len(tags)], gone, events[len(tags) :])
        self._engine.apply(batch)
        self._searcher.apply(batch)
        self._take()

    def _take(self) -> None:
        changes = self._engine.take_changes()
        for key in changes.deleted.tolist():
            self._lists.pop(key, None)
        for key, row in zip(changes.keys.tolist(), changes.neighbours, strict=True):
            self._lists[key] = row[:LISTED].copy()

    def settle(self) -> None:
        """Do what the engine does when nothing arrives."""
        while self._engine.refill(1_000):
            pass
        self._take()

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        return self._searcher.search(queries, count, None, None).keys

    def lists(self, tags: Numbers, vectors: Vectors, count: int) -> Numbers:
        """See `Contestant`: those that are kept."""
        del vectors
        found = np.full((len(tags), count), NOT_THERE, np.int64)
        for at, tag in enumerate(tags.tolist()):
            listed = self._lists.get(tag, found[at, :0])[:count]
            found[at, : len(listed)] = listed
        return found


class HnswlibIndex(_Queried):
    """hnswlib; what is deleted is marked, and comes back in its old place."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        hnswlib = importlib.import_module("hnswlib")
        self._index = hnswlib.Index(space="ip", dim=protocol.vectors.shape[1])
        self._index.init_index(max_elements=len(protocol.vectors), M=LINKS, ef_construction=BUILD_WIDTH)
        self._index.set_ef(SEARCH_WIDTH)

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self._index.add_items(vectors, tags)

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        for tag in tags.tolist():
            self._index.mark_deleted(tag)

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._index.knn_query(queries, k=count)[0].astype(np.int64)
        return found


class UsearchIndex(_Queried):
    """USearch, its defaults but for the metric."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        usearch = importlib.import_module("usearch.index")
        self._index = usearch.Index(
            ndim=protocol.vectors.shape[1], metric="ip", dtype="f32", expansion_search=SEARCH_WIDTH
        )

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        there = self._index.contains(tags)
        if there.any():
            self.delete(tags[there])
        self._index.add(tags, vectors)

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        self._index.remove(tags)

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._index.search(queries, count).keys.astype(np.int64)
        return found


class FaissIvfIndex(_Queried):
    """faiss IVF, trained beforehand on a sample of all that will ever come; rows are removed."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        faiss: Any = importlib.import_module("faiss")
        faiss.omp_set_num_threads(os.cpu_count())
        dimension, cells = protocol.vectors.shape[1], int(4 * np.sqrt(protocol.most_alive))
        self._coarse = faiss.IndexFlatIP(dimension)
        self._index = faiss.IndexIVFFlat(self._coarse, dimension, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.nprobe = PROBES
        sample = np.random.default_rng(1).permutation(len(protocol.vectors))[: TRAINED * cells]
        self._index.train(protocol.vectors[sample])
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)
        self._there: set[int] = set()

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self.delete(np.array([tag for tag in tags.tolist() if tag in self._there], np.int64))
        self._index.add_with_ids(vectors, tags)
        self._there.update(tags.tolist())

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        self._index.remove_ids(tags)
        self._there.difference_update(tags.tolist())

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._index.search(queries, count)[1]
        return found


class FaissHnswIndex(_Queried):
    """faiss HNSW, which cannot delete: a search leaves out what is gone, and a new vector is a new row."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        self._faiss: Any = importlib.import_module("faiss")
        self._faiss.omp_set_num_threads(os.cpu_count())
        self._index = self._faiss.IndexHNSWFlat(
            protocol.vectors.shape[1], LINKS, self._faiss.METRIC_INNER_PRODUCT
        )
        self._index.hnsw.efConstruction = BUILD_WIDTH
        self._tags = np.empty(0, np.int64)
        self._row_of: dict[int, int] = {}

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self._row_of |= dict(
            zip(tags.tolist(), range(len(self._tags), len(self._tags) + len(tags)), strict=True)
        )
        self._tags = np.concatenate([self._tags, tags])
        self._index.add(vectors)

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        for tag in tags.tolist():
            del self._row_of[tag]

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        alive = np.zeros(len(self._tags), np.bool_)
        alive[list(self._row_of.values())] = True
        chosen = self._faiss.IDSelectorBitmap(np.packbits(alive, bitorder="little"))
        how = self._faiss.SearchParametersHNSW(efSearch=SEARCH_WIDTH, sel=chosen)
        rows = self._index.search(queries, count, params=how)[1]
        return np.where(rows >= 0, self._tags[rows], NOT_THERE)


class SvsIndex(_Queried):
    """Intel's SVS, a dynamic Vamana graph, consolidated after deletions."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        del protocol
        self._svs: Any = importlib.import_module("svs")
        self._index: Any = None

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        names = tags.astype(np.uint64)
        if self._index is None:
            how = self._svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128)
            self._index = self._svs.DynamicVamana.build(
                how, vectors, names, self._svs.DistanceType.MIP, os.cpu_count()
            )
            self._index.search_window_size = SEARCH_WIDTH
            return
        there = [tag for tag in names.tolist() if self._index.has_id(tag)]
        if there:
            self.delete(np.array(there, np.int64))
        self._index.add(vectors, names)

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        self._index.delete(tags.astype(np.uint64))
        self._index.consolidate()
        self._index.compact(10_000)  # rows at a time

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._index.search(queries, count)[0].astype(np.int64)
        return found


class DiskannIndex(_Queried):
    """DiskANN's index in memory, the runbooks' own reference, with their R and L of 50; consolidated after deletions."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        diskannpy = importlib.import_module("diskannpy")
        self._index = diskannpy.DynamicMemoryIndex(
            distance_metric="l2",
            vector_dtype=np.float32,
            dimensions=protocol.vectors.shape[1],
            max_vectors=len(protocol.vectors) + 1,
            complexity=50,
            graph_degree=50,
            num_threads=os.cpu_count(),
        )
        # Numbers begin at 1 there.
        self._there: set[int] = set()

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self.delete(np.array([tag for tag in tags.tolist() if tag in self._there], np.int64))
        self._index.batch_insert(vectors, (tags + 1).astype(np.uint32), os.cpu_count())
        self._there.update(tags.tolist())

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        for tag in tags.tolist():
            self._index.mark_deleted(np.uint32(tag + 1))
        if len(tags):
            self._index.consolidate_delete()
        self._there.difference_update(tags.tolist())

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._index.batch_search(queries, count, SEARCH_WIDTH, os.cpu_count()).identifiers
        return found.astype(np.int64) - 1


class DeglibIndex(_Queried):
    """deglib's dynamic exploration graph, its settings for streams."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        deglib: Any = importlib.import_module("deglib")
        space = deglib.FloatSpace.create(protocol.vectors.shape[1], deglib.Metric.FP32_L2)
        self._graph = deglib.create_dynamic_empty(space, 32)
        target = deglib.builder.OptimizationTarget.StreamingData
        self._builder = deglib.GraphBuilder(
            self._graph, optimization_target=target, extend_k=64, extend_eps=0.1
        )
        self._builder.set_thread_count(os.cpu_count())
        self._there: set[int] = set()

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self.delete(np.array([tag for tag in tags.tolist() if tag in self._there], np.int64))
        self._builder.add_entry(tags.astype(np.uint32), vectors)
        self._builder.build()
        self._there.update(tags.tolist())

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        for tag in tags.tolist():
            self._builder.remove_entry(tag)
        if len(tags):
            self._builder.build()
        self._there.difference_update(tags.tolist())

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found: Numbers = self._graph.search(
            queries, eps=0.1, k=count, threads=os.cpu_count(), return_distances=False
        )
        return np.asarray(found).astype(np.int64)


class PgvectorIndex(PgvectorTable, _Queried):
    """pgvector's HNSW, each micro-batch a COPY."""


CONTESTANTS: dict[str, Callable[[StreamingProtocol], Contestant]] = {
    "MESS-AI": OurEngine,
    "hnswlib": HnswlibIndex,
    "usearch": UsearchIndex,
    "faiss HNSW": FaissHnswIndex,
    "faiss IVF": FaissIvfIndex,
    "SVS": SvsIndex,
    "DiskANN": DiskannIndex,
    "deglib": DeglibIndex,
    "pgvector": PgvectorIndex,
}

"""Ad-hoc search: queries a second at recall@50 of 0.99, beside hnswlib, faiss and an exact scan.

One thread answers, for all alike; builds take all there are. Every row has its own parameter raised until the recall is
reached; the search process does that itself when it builds. Two catalogues: embeddings along few directions, and such
as spread over many, which are harder for all of them.
"""

import asyncio
import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from threadpoolctl import threadpool_limits

from benchmarks import data, machine, report
from benchmarks.sizes import CatalogueSize
from streams.engine.search import SearchProcess, SearchSettings
from streams.engine.search.searcher import Searcher
from streams.engine.types import Keys, Vectors

COUNT = 50
WANTED = 0.99
QUERIES = 1_024
# A rate is taken over all queries, in parts that batches divide, or for so many seconds.
PART = 128
MOST_SECONDS = 5.0
# The k-th direction of spread embeddings has this power of k of the first one's variation.
DECAY = -0.7
CLUSTERS = 300
BATCH = 64
LINKS, BUILD_WIDTH = 16, 200  # as the other benchmarks have hnswlib, and both libraries' manuals
WIDTHS = (50, 75, 100, 150, 200, 300, 400, 600, 800, 1_200, 2_000)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

Rows = npt.NDArray[np.integer]
Search = Callable[[Vectors], Rows]


@dataclass(frozen=True, slots=True)
class SearchPeer:
    """Something that searches: `widen` sets its parameter, `widths` are what that may be, `spent` tells its processor time."""

    name: str
    search: Search
    built: float
    widen: Callable[[int], None] = lambda _: None
    widths: tuple[int, ...] = (0,)
    spent: Callable[[], float] = time.process_time


def spread(count: int, dimension: int, seed: int = 0) -> Vectors:
    """Unit vectors, float32 (count, dimension), in clusters that overlap, whose variation falls off slowly from direction to direction."""
    world = np.random.default_rng(7)
    share = (np.arange(1, dimension + 1) ** DECAY).astype(np.float32)
    turn = np.linalg.qr(world.standard_normal((dimension, dimension)))[0].astype(np.float32)
    centres = world.standard_normal((CLUSTERS, dimension), dtype=np.float32)
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, CLUSTERS, count)]
    points += 0.8 * rng.standard_normal(points.shape, dtype=np.float32)
    made: Vectors = (points * share) @ turn
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def between(near: Vectors) -> Vectors:
    """Queries by two seeds: the middle of two vectors that need not be alike."""
    mixed = near + np.roll(near, 1, axis=0)
    scaled: Vectors = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return scaled


def hnswlib_search_peer(vectors: Vectors) -> SearchPeer:
    """Raises ImportError where it is not installed."""
    hnswlib = importlib.import_module("hnswlib")
    began = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=LINKS, ef_construction=BUILD_WIDTH)
    index.add_items(vectors)
    built = time.perf_counter() - began
    return SearchPeer(
        "hnswlib",
        lambda q: index.knn_query(q, k=COUNT, num_threads=1)[0].astype(np.int64),
        built,
        index.set_ef,
        WIDTHS,
    )


def faiss_hnsw(vectors: Vectors) -> SearchPeer:
    """Raises ImportError where it is not installed."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(os.cpu_count())
    began = time.perf_counter()
    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_WIDTH
    index.add(vectors)
    built = time.perf_counter() - began

    def widen(width: int) -> None:
        index.hnsw.efSearch = width

    faiss.omp_set_num_threads(1)
    return SearchPeer("faiss HNSW", lambda q: index.search(q, COUNT)[1], built, widen, WIDTHS)


def faiss_ivf(vectors: Vectors) -> SearchPeer:
    """Raises ImportError where it is not installed."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(os.cpu_count())
    began = time.perf_counter()
    lists = int(4 * np.sqrt(len(vectors)))
    coarse = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(coarse, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    built = time.perf_counter() - began

    def widen(width: int) -> None:
        index.nprobe = width

    faiss.omp_set_num_threads(1)
    return SearchPeer(f"faiss IVF, {lists} lists", lambda q: index.search(q, COUNT)[1], built, widen, PROBES)


@contextmanager
def ours(vectors: Vectors, names: list[str]) -> Iterator[tuple[SearchPeer, asyncio.Runner, SearchProcess]]:
    """The search process, from the outside, with its index built."""
    numbers: Keys = np.arange(len(vectors), dtype=np.int64)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with asyncio.Runner() as runner:
        process = SearchProcess(vectors.shape[1], settings=SearchSettings(exact_below=1_000))
        try:
            runner.run(process.start())
            began = time.perf_counter()
            for start in range(0, len(vectors), 5_000):
                part = slice(start, start + 5_000)
                runner.run(process.load(numbers[part], names[part], vectors[part]))
            while not runner.run(process.stats()).index_size:
                time.sleep(0.2)
            built = time.perf_counter() - began
            search = lambda q: runner.run(process.search(q, COUNT)).keys  # noqa: E731
            yield SearchPeer("search process", search, built, spent=_spent), runner, process
        finally:
            runner.run(process.stop())
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _spent() -> float:
    """Processor time of those who ask, of the search process and of its index."""
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(one.user + one.system for one in times)


def scan_peer(vectors: Vectors, names: list[str]) -> SearchPeer:
    """The exact scan of the same code, in this process."""
    searcher = Searcher(vectors.shape[1], SearchSettings())
    searcher.load(np.arange(len(vectors), dtype=np.int64), names, vectors)
    return SearchPeer("exact scan", lambda q: searcher.search(q, COUNT, None, None).keys, 0.0)


def recall(found: Rows, true: Rows) -> float:
    """The share of the true ones found."""
    return sum(len(np.intersect1d(f, t)) for f, t in zip(found, true, strict=True)) / true.size


@dataclass(frozen=True, slots=True)
class QueryRate:
    """Queries a second, and the processor time of one in microseconds."""

    queries: float
    processor: float

    def __str__(self) -> str:
        return f"{self.queries:,.0f} ({self.processor:,.0f} us)"


@dataclass(frozen=True, slots=True)
class SearchMeasurement:
    """Of one peer with one kind of queries: at the first width that reaches the recall, or the last."""

    width: int
    recall: float
    batched: QueryRate
    single: QueryRate


def measure_search_peer(peer: SearchPeer, queries: Vectors, true: Rows) -> SearchMeasurement:
    """Raise the peer's width until the recall is reached, then time it: in batches, and one query at a time."""
    for width in peer.widths:
        peer.widen(width)
        reached = recall(peer.search(queries), true)
        if reached >= WANTED:
            break
    return SearchMeasurement(width, reached, _rate(peer, queries, BATCH), _rate(peer, queries, 1))


def _rate(peer: SearchPeer, queries: Vectors, size: int) -> QueryRate:
    """For some seconds, or as long as a round of all queries takes."""
    asked, began, spent = 0, time.perf_counter(), peer.spent()
    while asked < len(queries) and time.perf_counter() < began + MOST_SECONDS:
        for start in range(0, min(len(queries), PART), size):
            part = queries[(asked + start) % len(queries) :][:size]
            peer.search(part)
        asked += min(len(queries), PART)
    took = time.perf_counter() - began
    return QueryRate(asked / took, 1e6 * (peer.spent() - spent) / asked)


def _add(table: report.Table, kind: str, peer: SearchPeer, got: SearchMeasurement, scanned: float) -> None:
    row = (
        f"{kind}: {peer.name}",
        f"{peer.built:,.0f}" if peer.built else "",
        str(got.width or ""),
        f"{got.recall:.4f}",
        str(got.batched),
        str(got.single),
        f"{got.single.queries / scanned:.1f} x",
        machine.load_average(),
    )
    table.add_row(*row)
    # Building takes minutes: what is known is told.
    report.console.print(" | ".join(row), markup=False)


def compare_search_peers(size: CatalogueSize, embeddings: str) -> None:
    """Measure one size of one kind of embeddings and print its table."""
    make_vectors = EMBEDDINGS[embeddings]
    vectors, names = make_vectors(size.tracks, size.dimension, 0), data.track_ids(size.tracks)
    near = make_vectors(QUERIES, size.dimension, 2)
    kinds = {"near": near, "between": between(near)}
    exact = scan_peer(vectors, names)
    truth = {kind: exact.search(queries) for kind, queries in kinds.items()}
    table = report.make_table(
        f"Search, {size}, {embeddings}: queries/s at recall@{COUNT} of {WANTED}, one thread",
        *(
            "queries: what",
            "built in s",
            "width",
            f"recall@{COUNT}",
            f"in {BATCH}s",
            "one by one",
            "of the scan",
            "load",
        ),
    )
    scanned = {}
    with threadpool_limits(1):
        for kind, queries in kinds.items():
            got = measure_search_peer(exact, queries[:256], truth[kind][:256])
            scanned[kind] = got.single.queries
            _add(table, kind, exact, got, scanned[kind])
    missing = []
    for make in (hnswlib_search_peer, faiss_hnsw, faiss_ivf):
        try:
            peer = make(vectors)
        except ImportError as error:
            missing.append(str(error.name))
            continue
        with threadpool_limits(1):
            for kind, queries in kinds.items():
                _add(table, kind, peer, measure_search_peer(peer, queries, truth[kind]), scanned[kind])
        del peer
    told = _compare_ours(table, vectors, names, kinds, truth, scanned)
    left_out = f" Not installed and left out: {', '.join(missing)}." if missing else ""
    report.print_table(table, told + left_out)


def _compare_ours(
    table: report.Table,
    vectors: Vectors,
    names: list[str],
    kinds: dict[str, Vectors],
    truth: dict[str, Rows],
    scanned: dict[str, float],
) -> str:
    """Measure the search process, and say what it tells of itself."""
    with ours(vectors, names) as (peer, runner, process):
        for kind, queries in kinds.items():
            before = runner.run(process.stats())
            got = measure_search_peer(peer, queries, truth[kind])
            after = runner.run(process.stats())
            exactly = after.exact_queries - before.exact_queries
            asked = exactly + after.approximate_queries - before.approximate_queries
            how = f"{kind} ({exactly / asked:.0%} scanned)"
            _add(table, how, peer, got, scanned[kind])
        memory = machine.memory_bytes(process.pid or 0)
    phases = ", ".join(f"{name} {spent:.1f} s" for name, spent in after.seconds.items())
    return (
        f"Search process, its own measure of recall: {after.recall:.4f} for {after.answered_share:.0%} of its sample;"
        f" {report.mebibytes(memory)}, of which vectors {report.mebibytes(vectors.nbytes)}. Seconds: {phases}."
    )


EMBEDDINGS: dict[str, Callable[[int, int, int], Vectors]] = {
    "few directions": data.vectors,
    "spread": spread,
}


def _sizes(text: str | None) -> list[CatalogueSize]:
    pairs = (part.lower().split("x") for part in (text or "").split(",") if part)
    return [CatalogueSize(int(tracks), int(dimension)) for tracks, dimension in pairs]


def main(*, quick: bool = False) -> None:
    """Run it and print a table for each size: 50,000 x 768, or what MESS_BENCH_SIZES says."""
    for size in _sizes(os.environ.get("MESS_BENCH_SIZES")) or [
        CatalogueSize(10_000 if quick else 50_000, 768)
    ]:
        for embeddings in EMBEDDINGS:
            compare_search_peers(size, embeddings)


if __name__ == "__main__":
    main()

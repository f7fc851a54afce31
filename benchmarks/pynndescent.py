"""pynndescent by its documented interface: all lists from nothing, and queries, beside the engine and the inverted file.

Each measurement has a process of its own, which makes the same vectors, so that memory can be told apart. Figures are
processor seconds of all threads, which a busy machine distorts little; wall time is not given.
"""

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from benchmarks import data, machine, report
from benchmarks.adhoc_search import between, recall
from benchmarks.engine_rates import FollowedLists, SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from streams.engine import acceleration
from streams.engine.approximate import EXACT_UPTO, ApproximateEngine
from streams.engine.search import SearchSettings
from streams.engine.search.searcher import Searcher
from streams.engine.types import StoredLists, Vectors, no_events

SIZES = [
    CatalogueSize(50_000, 128),
    CatalogueSize(50_000, 768),
    CatalogueSize(200_000, 128),
    CatalogueSize(200_000, 768),
    CatalogueSize(500_000, 128),
    CatalogueSize(1_000_000, 128),
]
QUICK = [CatalogueSize(20_000, 128)]
PUBLISHED = 50
AUDITED = 1_000
SLICE = 2_048
# Comparing all with all takes an hour at a million: in larger catalogues so many lists are measured, and the rest reckoned.
MEASURED, WHOLE_UPTO = 4_096, 60_000
QUERIES, SINGLES, BATCH = 512, 256, 64
LEAF_BUDGETS = (16, 64, 256)
EPSILONS = (0.05, 0.1, 0.2)

Row = tuple[str, ...]


@dataclass(slots=True)
class Spent:
    """Processor seconds and peak memory of this process since it was made."""

    began: float
    resident: int

    @classmethod
    def from_now(cls) -> "Spent":
        """Begin; the kernel's peak begins anew, too."""
        Path("/proc/self/clear_refs").write_text("5")
        return cls(time.process_time(), psutil.Process().memory_info().rss)

    @property
    def seconds(self) -> float:
        """Of all threads."""
        return time.process_time() - self.began

    @property
    def peak(self) -> str:
        """Above what was resident at first."""
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return report.mebibytes(kilobytes * 1024 - self.resident)


def _nothing() -> StoredLists:
    none = np.empty((0, 0))
    keys = np.empty(0, dtype=np.int64)
    return StoredLists(keys, none.astype(np.int64), none.astype(np.float32), keys, no_events())


def _engine(size: CatalogueSize, tracks: SyntheticTracks, upto: int, lists: StoredLists) -> ApproximateEngine:
    engine = ApproximateEngine(size.dimension, exact_upto=upto)
    engine.accelerate(acceleration.load_kernels())
    engine.load(tracks.batch(0, size.tracks), lists)
    return engine


def _drained(waiting: Callable[[], int], engine: ApproximateEngine, total: int) -> float:
    """Work until nothing waits, or for `MEASURED` of it; processor seconds of all of it, reckoned where there was more."""
    began, first = time.process_time(), waiting()
    while (left := waiting()) and (total <= WHOLE_UPTO or first - left < MEASURED):
        engine.refill(SLICE)
    return (time.process_time() - began) * first / max(1, first - left)


def _row(what: str, seconds: float, right: tuple[float, float] | None, peak: str, note: str = "") -> Row:
    recalled = ("", "") if right is None else (f"{right[0]:.5f}", f"{right[1]:.1%}")
    return (what, f"{seconds:,.1f}", *recalled, peak, note)


def _right(tracks: SyntheticTracks, lists: StoredLists, count: int) -> tuple[float, float]:
    found = tracks.findings(lists, count, AUDITED)
    return found.recall(PUBLISHED), found.right / found.tracks


def by_products(size: CatalogueSize) -> list[Row]:
    """The engine alone, exact from the first list on."""
    tracks = SyntheticTracks.make(size.tracks, size.dimension)
    spent, engine = Spent.from_now(), _engine(size, tracks, size.tracks, _nothing())
    began = spent.seconds
    reckoned = _drained(lambda: engine.stats().waiting_refills, engine, size.tracks)
    note = "" if size.tracks <= WHOLE_UPTO else f"reckoned from {MEASURED:,} lists"
    return [_row("engine, products with all", began + reckoned, (1.0, 1.0), spent.peak, note)]


def by_cells(size: CatalogueSize) -> list[Row]:
    """The engine alone: lists from cells, then the comparison of all with all."""
    tracks = SyntheticTracks.make(size.tracks, size.dimension)
    spent, followed = Spent.from_now(), FollowedLists(tracks.keys)
    engine = _engine(size, tracks, size.tracks // 2, _nothing())
    while engine.stats().waiting_refills:
        engine.refill(SLICE)
    made, peak = spent.seconds, spent.peak
    followed.take(engine.take_changes())
    rows = [_row("engine, cells", made, _right(tracks, followed.lists, size.tracks), peak)]
    return rows + _completed(size, tracks, engine, followed, made, "engine, cells, then all with all")


def _completed(
    size: CatalogueSize,
    tracks: SyntheticTracks,
    engine: ApproximateEngine,
    followed: FollowedLists,
    before: float,
    what: str,
) -> list[Row]:
    spent = Spent.from_now()
    whole = size.tracks <= WHOLE_UPTO
    seconds = before + _drained(lambda: engine.stats().unverified, engine, size.tracks)
    followed.take(engine.take_changes())
    right = _right(tracks, followed.lists, size.tracks) if whole else None
    note = "" if whole else f"reckoned from {MEASURED:,} comparisons"
    return [_row(what, seconds, right, spent.peak, note)]


def by_descent(size: CatalogueSize) -> list[Row]:
    """Pynndescent's graph, then the comparison of all with all."""
    from pynndescent import NNDescent  # noqa: PLC0415 - it imports numba and scikit-learn, which take a while

    tracks = SyntheticTracks.make(size.tracks, size.dimension)
    spent = Spent.from_now()
    NNDescent(tracks.vectors[:1_000], metric="dot", n_neighbors=PUBLISHED + 1, random_state=1)
    rows = [_row("pynndescent, first 1,000: loading", spent.seconds, None, spent.peak)]
    spent = Spent.from_now()
    index = NNDescent(tracks.vectors, metric="dot", n_neighbors=PUBLISHED + 1, random_state=1)
    lists = neighbour_lists(tracks, index.neighbor_graph[0])
    made, peak = spent.seconds, spent.peak
    rows.append(_row("pynndescent, graph", made, _right(tracks, lists, size.tracks), peak))
    del index
    began = time.process_time()
    engine, followed = _engine(size, tracks, size.tracks - 1, lists), FollowedLists(tracks.keys)
    followed.lists = lists
    made += time.process_time() - began
    return rows + _completed(size, tracks, engine, followed, made, "pynndescent, then all with all")


def neighbour_lists(tracks: SyntheticTracks, graph: np.ndarray) -> StoredLists:
    """The lists that a graph, intp (n, 51) with each row itself, says, with exact similarities."""
    count = len(graph)
    own = graph == np.arange(count)[:, None]
    own[(~own).all(axis=1), -1] = True
    own[own.cumsum(axis=1) > 1] = False
    near = graph[~own].reshape(count, -1).astype(np.int32)
    similarities = acceleration.load_kernels().similarities
    each = np.repeat(np.arange(count, dtype=np.int32), near.shape[1])
    scores = similarities(tracks.vectors, each, near.ravel()).reshape(near.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    near, scores = np.take_along_axis(near, order, 1), np.take_along_axis(scores, order, 1)
    lengths, events = np.full(count, near.shape[1]), np.zeros(count, dtype=no_events().dtype)
    return StoredLists(tracks.keys[:count], tracks.keys[near], scores, lengths, events)


@dataclass(frozen=True, slots=True)
class _Queries:
    near: Vectors
    between: Vectors
    truth: dict[str, np.ndarray]

    @classmethod
    def of(cls, vectors: Vectors) -> "_Queries":
        near = data.vectors(QUERIES, vectors.shape[1], 2)
        mixed = between(near)
        return cls(near, mixed, {"near": _nearest(vectors, near), "between": _nearest(vectors, mixed)})

    def measure(self, search: Callable[[Vectors], np.ndarray]) -> Row:
        """Recall, and microseconds of processor time a query alone and in batches, near and between."""
        figures: list[str] = []
        for kind, queries in (("near", self.near), ("between", self.between)):
            found = np.concatenate([search(queries[at : at + BATCH]) for at in range(0, QUERIES, BATCH)])
            figures.append(f"{recall(found, self.truth[kind]):.4f}")
            figures += [f"{1e6 * self._seconds(search, queries, step):,.0f}" for step in (1, BATCH)]
        return tuple(figures)

    @staticmethod
    def _seconds(search: Callable[[Vectors], np.ndarray], queries: Vectors, step: int) -> float:
        asked = SINGLES if step == 1 else QUERIES
        search(queries[:step])
        began = time.process_time()
        for at in range(0, asked, step):
            search(queries[at : at + step])
        return (time.process_time() - began) / asked


def _nearest(vectors: Vectors, queries: Vectors) -> np.ndarray:
    found = np.empty((len(queries), PUBLISHED), dtype=np.int64)
    for at in range(0, len(queries), 16):
        product = queries[at : at + 16] @ vectors.T
        found[at : at + 16] = np.argpartition(-product, PUBLISHED - 1, axis=1)[:, :PUBLISHED]
    return found


def queries_of_ours(size: CatalogueSize) -> list[Row]:
    """The inverted file and the exhaustive search, in the process that asks."""
    vectors, names = data.vectors(size.tracks, size.dimension), data.track_ids(size.tracks)
    queries, rows = _Queries.of(vectors), []
    for what, least in (("exhaustive search", size.tracks + 1), ("inverted file", 1_000)):
        searcher = Searcher(size.dimension, SearchSettings(exact_below=least))
        searcher.load(np.arange(size.tracks), names, vectors)
        began = time.process_time() + _children()
        indexed = least < size.tracks
        while indexed and not searcher.stats().index_size:
            searcher.supervisor.tend()
            time.sleep(0.05)
        built = f"{time.process_time() + _children() - began:,.1f}" if indexed else ""
        with threadpool_limits(1):
            measured = queries.measure(lambda q, s=searcher: s.search(q, PUBLISHED, None, None).keys)  # type: ignore[misc]
        held = report.mebibytes(searcher.stats().memory_bytes - vectors.nbytes)
        rows.append((what, built, *measured, held))
        searcher.supervisor.stop()
    return rows


def _children() -> float:
    """Processor seconds of the processes that this one started, those that have ended included."""
    times = os.times()
    living = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return times.children_user + times.children_system + sum(one.user + one.system for one in living)


def queries_of_pynndescent(size: CatalogueSize) -> list[Row]:
    """Its index, at several leaf budgets and epsilons."""
    from pynndescent import NNDescent  # noqa: PLC0415 - it imports numba and scikit-learn, which take a while

    vectors = data.vectors(size.tracks, size.dimension)
    queries = _Queries.of(vectors)
    NNDescent(vectors[:1_000], metric="dot", random_state=1).query(vectors[:10])
    spent, rows = Spent.from_now(), []
    built = NNDescent(vectors, metric="dot", random_state=1)
    graph = spent.seconds
    for budget in LEAF_BUDGETS:
        # The graph is the same for every budget, which `prepare` reads. (`copy.copy` would prepare it as it is.)
        index = NNDescent.__new__(NNDescent)
        vars(index).update(vars(built), search_tree_leaf_budget=budget)
        began = time.process_time()
        index.prepare()
        prepared, peak = graph + time.process_time() - began, spent.peak
        for epsilon in EPSILONS:
            measured = queries.measure(
                lambda q, i=index, e=epsilon: i.query(q, k=PUBLISHED, epsilon=e, pre_normalized=True)[0]  # type: ignore[misc]
            )
            rows.append((f"pynndescent, {budget} leaves, {epsilon}", f"{prepared:,.1f}", *measured, peak))
        del index
    return rows


def _apart(measure: Callable[[CatalogueSize], list[Row]], size: CatalogueSize) -> list[Row]:
    """Rows measured in a process of its own; a row that says why where it did not come to an end."""
    mine, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(theirs, measure, size))
    process.start()
    theirs.close()
    try:
        rows: list[Row] = mine.recv()
    except EOFError:
        process.join()
        rows = [(f"{measure.__name__}: ended with status {process.exitcode}",)]
    process.join()
    for row in rows:
        report.progress(f"{size} | " + " | ".join(row))
    return rows


def _child(
    connection: Connection, measure: Callable[[CatalogueSize], list[Row]], size: CatalogueSize
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection.send(measure(size))


def _print(title: str, headings: tuple[str, ...], rows: list[Row], note: str) -> None:
    table = report.make_table(title, *headings)
    for row in rows:
        table.add_row(*row)
    report.print_table(table, note)


def _compare(size: CatalogueSize) -> None:
    ways: list[Any] = [by_cells, by_descent]
    if size.tracks <= EXACT_UPTO:
        ways.insert(0, by_products)
    _print(
        f"All lists of {size} from nothing",
        ("how", "processor s", "recall@50", "lists right", "peak memory beside the vectors", ""),
        [row for way in ways for row in _apart(way, size)],
        f"Load {machine.load_average()}.",
    )
    measured = [row for way in (queries_of_ours, queries_of_pynndescent) for row in _apart(way, size)]
    figures = ("recall@50", "us alone", f"us in {BATCH}s")
    _print(
        f"Queries to {size}",
        (
            "what",
            "built, processor s",
            *(f"{kind}: {figure}" for kind in ("near", "between") for figure in figures),
            "memory beside the vectors",
        ),
        measured,
        f"One thread answers. pynndescent's memory is the peak of its build. Load {machine.load_average()}.",
    )


def main(*, quick: bool = False) -> None:
    """Run it and print two tables for each size, those that MESS_BENCH_SIZES says where it is set."""
    for size in chosen_sizes() or (QUICK if quick else SIZES):
        _compare(size)


if __name__ == "__main__":
    main()

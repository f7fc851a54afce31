"""A catalogue whose lists are not known: how long until all are there, right, and exact, beside its peers."""

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from benchmarks import end_to_end, machine, processes, report
from benchmarks.engine_rates import FollowedLists, SteadyInflow, SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from mess import migrate
from streams.engine import acceleration
from streams.engine.approximate import EXACT_UPTO, ApproximateEngine
from streams.engine.audit import AuditFindings
from streams.engine.types import StoredLists, no_events

SIZES = [
    CatalogueSize(10_000, 768, audited=1_000),
    CatalogueSize(50_000, 768, audited=1_000),
    CatalogueSize(50_000, 128, audited=1_000),
]
QUICK = [CatalogueSize(4_000, 128, audited=1_000)]
WHOLE_WAY = CatalogueSize(50_000, 768, audited=1_000)
# Larger ones take their peers too long.
PEERS_UPTO = 60_000
SLICE = 2_048
# How often a long run says how far it is.
PROGRESS_SECONDS = 15.0
# How many tracks' comparison with all others is timed where all lists were made from cells.
COMPARED = 4_096


@dataclass(frozen=True, slots=True)
class BootstrapMethod:
    """One way to all lists: wall and processor seconds, the lists against brute force, and how it went."""

    name: str
    seconds: float
    processor: float
    findings: AuditFindings
    load: str
    note: str = ""


@contextlib.contextmanager
def _clock() -> Iterator[list[float]]:
    taken = [time.perf_counter(), time.process_time()]
    yield taken
    taken[:] = [time.perf_counter() - taken[0], time.process_time() - taken[1]]


def _nothing() -> StoredLists:
    empty = np.empty((0, 0))
    return StoredLists(
        np.empty(0, dtype=np.int64),
        empty.astype(np.int64),
        empty.astype(np.float32),
        np.empty(0, dtype=np.int64),
        no_events(),
    )


def _loaded(size: CatalogueSize, tracks: SyntheticTracks, exact_upto: int) -> ApproximateEngine:
    engine = ApproximateEngine(size.dimension, exact_upto=exact_upto)
    engine.accelerate(acceleration.load_kernels())
    engine.load(tracks.batch(0, size.tracks), _nothing())
    return engine


def _engine(
    size: CatalogueSize,
    tracks: SyntheticTracks,
    engine: ApproximateEngine,
    followed: FollowedLists,
    name: str,
) -> BootstrapMethod:
    """The engine, loaded without lists, as its idle time makes them."""
    slowest, said = 0.0, time.perf_counter()
    with _clock() as taken:
        while waiting := engine.stats().waiting_refills:
            began = time.perf_counter()
            engine.refill(SLICE)
            slowest = max(slowest, time.perf_counter() - began)
            if time.perf_counter() - said > PROGRESS_SECONDS:
                said = time.perf_counter()
                report.progress(f"{size}: {waiting:,} lists to be made, load {machine.load_average()}")
    followed.take(engine.take_changes())
    memory, raw = engine.stats().memory_bytes, size.tracks * size.dimension * 4
    lists = engine.lists.memory_bytes
    note = (
        f"slices of {SLICE:,}, longest {slowest * 1000:,.0f} ms; vectors and index {(memory - lists) / raw:.2f} x the raw"
        f" vectors, lists {lists / size.tracks:,.0f} bytes a track"
    )
    return BootstrapMethod(
        name, *taken, _right(size, tracks, followed, size.tracks), machine.load_average(), note
    )


def _right(
    size: CatalogueSize, tracks: SyntheticTracks, followed: FollowedLists, count: int
) -> AuditFindings:
    return tracks.findings(followed.lists, count, size.audited)


def _compared(
    size: CatalogueSize,
    tracks: SyntheticTracks,
    engine: ApproximateEngine,
    followed: FollowedLists,
    most: int,
    count: int,
) -> BootstrapMethod:
    """Pending tracks compared with all, in what would be idle time; no more than `most`."""
    pending = engine.stats().unverified
    said = time.perf_counter()
    with _clock() as taken:
        while (left := engine.stats().unverified) > max(0, pending - most):
            engine.refill(SLICE)
            if time.perf_counter() - said > PROGRESS_SECONDS:
                said = time.perf_counter()
                report.progress(
                    f"{size}: {left:,} tracks to be compared with all, load {machine.load_average()}"
                )
    followed.take(engine.take_changes())
    share = min(1.0, most / pending)
    note = "in idle time"
    if share < 1:
        note += f"; {most:,} of them, at this rate {taken[0] / share:,.0f} s for all"
    return BootstrapMethod(
        "  and compared with all", *taken, _right(size, tracks, followed, count), machine.load_average(), note
    )


def _exact(size: CatalogueSize, tracks: SyntheticTracks) -> list[BootstrapMethod]:
    """Exact lists; then inserts into that catalogue as above the threshold, right at once and in the end."""
    engine, followed = _loaded(size, tracks, size.tracks), FollowedLists(tracks.keys)
    ways = [_engine(size, tracks, engine, followed, "engine, exact")]
    engine.exact_upto, engine.flow, end = 0, SteadyInflow(), size.tracks + size.events
    while not engine.nearest.look_near(1.0):
        pass
    with _clock() as taken:
        for start in range(size.tracks, end, 256):
            engine.apply(tracks.batch(start, min(start + 256, end)))
    followed.take(engine.take_changes())
    found, note = _right(size, tracks, followed, end), "lists of the whole catalogue, right at once"
    ways.append(
        BootstrapMethod(f"  {size.events:,} inserts by cells", *taken, found, machine.load_average(), note)
    )
    return [*ways, _compared(size, tracks, engine, followed, size.events, end)]


def _near(size: CatalogueSize, tracks: SyntheticTracks) -> list[BootstrapMethod]:
    """Lists made from cells and from lists, as above the threshold; some of them compared with all."""
    engine = _loaded(size, tracks, min(EXACT_UPTO, size.tracks // 2))
    followed = FollowedLists(tracks.keys)
    ways = [_engine(size, tracks, engine, followed, "engine, by cells")]
    return [*ways, _compared(size, tracks, engine, followed, COMPARED, size.tracks)]


def _numpy(size: CatalogueSize, tracks: SyntheticTracks) -> BootstrapMethod:
    """A blocked product and a selection of the 50 best: what one would write."""
    vectors, k = tracks.vectors[: size.tracks], 50
    found = np.empty((size.tracks, k), dtype=np.int64)
    with _clock() as taken:
        for start in range(0, size.tracks, 256):
            block = vectors[start : start + 256] @ vectors.T
            block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
            best = np.argpartition(-block, k - 1, axis=1)[:, :k]
            ranks = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1)
            found[start : start + len(block)] = np.take_along_axis(best, ranks, axis=1)
    return BootstrapMethod(
        "blocked numpy",
        *taken,
        _findings(size, tracks, found),
        machine.load_average(),
        "all cores, float32 ties and all",
    )


def _findings(size: CatalogueSize, tracks: SyntheticTracks, found: np.ndarray) -> AuditFindings:
    """Hold rows of neighbours, intp (n, 50), against brute force; scores are computed for it."""
    keys = tracks.keys[: size.tracks]
    scores = np.empty(found.shape, dtype=np.float32)
    for row, near in enumerate(found):
        scores[row] = tracks.vectors[near] @ tracks.vectors[row]
    lengths = np.full(size.tracks, found.shape[1])
    return tracks.findings(
        StoredLists(keys, keys[found], scores, lengths, no_events()), size.tracks, size.audited
    )


def _pynndescent(size: CatalogueSize, tracks: SyntheticTracks) -> BootstrapMethod:
    from pynndescent import NNDescent  # noqa: PLC0415 - it imports numba and scikit-learn, which take a while

    vectors = tracks.vectors[: size.tracks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _clock() as cold:
            NNDescent(vectors[:1_000], metric="dot", n_neighbors=51, random_state=1)
        with _clock() as taken:
            graph, distances = NNDescent(vectors, metric="dot", n_neighbors=51, random_state=1).neighbor_graph
    # A place that was not filled names the last row at distance 1; the row itself comes first, or thereabouts.
    own = graph == np.arange(len(graph))[:, None]
    own[(~own).all(axis=1), -1] = True
    unfilled = ((graph == len(graph) - 1) & (distances >= 1.0)).sum()
    found = graph[~own].reshape(len(graph), -1)[:, :50]
    note = f"the graph alone, one build to warm up ({cold[0]:.0f} s) left out; {unfilled} places unfilled"
    return BootstrapMethod(
        "pynndescent", *taken, _findings(size, tracks, found), machine.load_average(), note
    )


def _hnswlib(size: CatalogueSize, tracks: SyntheticTracks) -> BootstrapMethod:
    import hnswlib  # noqa: PLC0415 - optional

    index = hnswlib.Index(space="ip", dim=size.dimension)
    with _clock() as taken:
        index.init_index(max_elements=size.tracks, ef_construction=200, M=16)
        index.add_items(tracks.vectors[: size.tracks])
        index.set_ef(100)
        found, _ = index.knn_query(tracks.vectors[: size.tracks], k=51)
    own = found == np.arange(len(found))[:, None].astype(found.dtype)
    own[(~own).all(axis=1), -1] = True
    near = found[~own].reshape(len(found), -1)[:, :50].astype(np.int64)
    return BootstrapMethod(
        "hnswlib",
        *taken,
        _findings(size, tracks, near),
        machine.load_average(),
        "M 16, ef_construction 200, ef 100",
    )


def _show(size: CatalogueSize, ways: list[BootstrapMethod], gflops: float) -> None:
    table = report.make_table(
        f"All lists of {size} from nothing",
        "what",
        "seconds",
        "processor s",
        "recall@50",
        "lists right",
        "load",
        "how",
    )
    table.columns[-1].justify = "left"
    for way in ways:
        found = way.findings
        table.add_row(
            way.name,
            f"{way.seconds:,.1f}",
            f"{way.processor:,.1f}",
            f"{found.recall(50):.5f}",
            f"{found.right / found.tracks:.2%} of {found.tracks:,}",
            way.load,
            way.note,
        )
    whole = 2.0 * size.tracks**2 * size.dimension / gflops / 1e9
    peak = psutil.Process().memory_info().rss
    report.print_table(
        table,
        f"The whole product of all with all takes {whole:,.1f} s at the {gflops:.0f} GFLOP/s measured here. Resident"
        f" memory of this process at the end, peers and all: {report.mebibytes(peak)}.",
    )


def _measure(size: CatalogueSize) -> None:
    tracks = SyntheticTracks.make(size.tracks + size.events, size.dimension)
    gflops = machine.gemm_gflops(min(size.tracks, 100_000), size.dimension)
    ways = _near(size, tracks) if size.tracks > EXACT_UPTO else _exact(size, tracks) + _near(size, tracks)
    if size.tracks <= PEERS_UPTO:
        # The engine gave BLAS one thread, for the sake of its own; the peers have all cores.
        threadpool_limits(limits=os.cpu_count(), user_api="blas")
        ways += [_numpy(size, tracks), _pynndescent(size, tracks)]
        with contextlib.suppress(ImportError):
            ways.append(_hnswlib(size, tracks))
    _show(size, ways, gflops)


def main(*, quick: bool = False) -> None:
    """Run it and print the tables.

    MESS_BENCH_SIZES (`1000000x128`) chooses other sizes, and leaves the topic out; with MESS_BENCH_TOPIC=1 it is only
    from the topic that these are measured.
    """
    given, only_topic = chosen_sizes(), bool(os.environ.get("MESS_BENCH_TOPIC"))
    for size in given or (QUICK if quick else SIZES):
        if not only_topic:
            _measure(size)
    whole = (given if only_topic else []) if given else [QUICK[0] if quick else WHOLE_WAY]
    for size in whole:
        with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory, processes.services() as facts:
            migrate.upgrade_schema(facts["database_url"])
            end_to_end.measure_start(size, facts, Path(directory) / "worker.log")


if __name__ == "__main__":
    main()

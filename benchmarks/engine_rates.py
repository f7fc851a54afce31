"""The neighbour engine alone: events a second and the latency of a batch, in this process and behind its pipe."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np

from benchmarks import data, machine, report
from benchmarks.sizes import CatalogueSize
from streams.engine import acceleration
from streams.engine.approximate import InflowEstimate
from streams.engine.audit import AuditFindings, Auditor
from streams.engine.exact import ExactEngine
from streams.engine.process import EngineProcess
from streams.engine.types import Keys, ListChanges, StoredLists, TrackBatch, Vectors, no_events

BATCH = 256
SINGLES = 100


@dataclass(frozen=True, slots=True)
class SyntheticTracks:
    """Tracks to insert: the catalogue first, then those whose insertion is timed."""

    names: list[str]
    keys: Keys
    vectors: Vectors

    @classmethod
    def make(cls, count: int, dimension: int) -> "SyntheticTracks":
        """So many."""
        names = data.track_ids(count)
        return cls(names, data.keys(names), data.vectors(count, dimension))

    def batch(self, start: int, stop: int) -> TrackBatch:
        """Some of them as the worker hands them on."""
        part = slice(start, min(stop, len(self.names)))
        return data.batch(self.keys[part], self.names[part], self.vectors[part])

    def findings(self, lists: StoredLists, count: int, sample: int) -> AuditFindings:
        """Hold lists of the first `count` tracks, or of a sample of them, against brute force."""
        auditor = Auditor(self.keys[:count], self.names[:count], self.vectors[:count])
        rows = np.arange(count)
        if count > sample:
            rows = np.random.default_rng(3).choice(count, sample, replace=False)
        return auditor.check_all(rows, lists)


class SteadyInflow(InflowEstimate):
    """What an engine takes a stream for that doesn't fill a catalogue: each newcomer gets its list at once."""

    def fills(self, tracks: int, *, large: bool) -> bool:
        """It does not."""
        return False


class FollowedLists:
    """The lists as a store would hold them, change by change."""

    def __init__(self, keys: Keys, published: int = 50) -> None:
        self._row_of = {key: row for row, key in enumerate(keys.tolist())}
        self.lists = StoredLists(
            keys=keys,
            neighbours=np.zeros((len(keys), published), dtype=np.int64),
            scores=np.zeros((len(keys), published), dtype=np.float32),
            lengths=np.zeros(len(keys), dtype=np.int64),
            events=no_events(),
        )

    def take(self, changes: ListChanges) -> None:
        """Apply what has changed."""
        rows = [self._row_of[key] for key in changes.keys.tolist()]
        self.lists.neighbours[rows] = changes.neighbours
        self.lists.scores[rows] = changes.scores
        self.lists.lengths[rows] = changes.lengths

    def upto(self, count: int) -> StoredLists:
        """Those of the first `count` tracks, to load an engine with."""
        whole = self.lists
        return StoredLists(
            whole.keys[:count],
            whole.neighbours[:count],
            whole.scores[:count],
            whole.lengths[:count],
            np.zeros(count, dtype=no_events().dtype),
        )


@dataclass(slots=True)
class EngineRates:
    """What was measured of one engine."""

    what: str
    rate: float
    batches: list[float]
    singles: list[float]
    load: str
    findings: AuditFindings
    phases: dict[str, float]


def _in_process(
    size: CatalogueSize, tracks: SyntheticTracks, followed: FollowedLists
) -> tuple[EngineRates, float]:
    """Time the engine itself; also returns the rate at which it was filled from nothing."""
    engine = ExactEngine(size.dimension)
    engine.accelerate(acceleration.load_kernels())
    began = time.perf_counter()
    for start in range(0, size.tracks, BATCH):
        engine.apply(tracks.batch(start, min(start + BATCH, size.tracks)))
    filled = size.tracks / (time.perf_counter() - began)
    followed.take(engine.take_changes())
    before = engine.stats().seconds
    batches = []
    began = time.perf_counter()
    end = size.tracks + size.events
    for start in range(size.tracks, end, BATCH):
        one = time.perf_counter()
        engine.apply(tracks.batch(start, min(start + BATCH, end)))
        followed.take(engine.take_changes())
        batches.append(time.perf_counter() - one)
    took = time.perf_counter() - began
    phases = {name: (total - before.get(name, 0.0)) / took for name, total in engine.stats().seconds.items()}
    singles = []
    for start in range(end, end + SINGLES):
        one = time.perf_counter()
        engine.apply(tracks.batch(start, start + 1))
        followed.take(engine.take_changes())
        singles.append(time.perf_counter() - one)
    findings = tracks.findings(followed.lists, end + SINGLES, size.audited)
    return EngineRates(
        "engine", size.events / took, batches, singles, machine.load_average(), findings, phases
    ), filled


async def _behind_pipe(size: CatalogueSize, tracks: SyntheticTracks, lists: StoredLists) -> EngineRates:
    """Time the engine process, loaded with lists as at a worker's start."""
    engine = EngineProcess(size.dimension, accelerated_from=0)
    await engine.start()
    try:
        while not (await engine.stats()).compiled:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.1)
        await engine.load(tracks.batch(0, len(lists.keys)), lists)
        followed = FollowedLists(tracks.keys)
        followed.take(await engine.take_changes())
        for name in ("neighbours", "scores", "lengths"):
            getattr(followed.lists, name)[: len(lists.keys)] = getattr(lists, name)
        batches, singles = [], []
        began = time.perf_counter()
        start, end = len(lists.keys), len(lists.keys) + size.events
        while start < end:
            one = time.perf_counter()
            await engine.apply(tracks.batch(start, min(start + BATCH, end)))
            followed.take(await engine.take_changes())
            batches.append(time.perf_counter() - one)
            start += BATCH
        took = time.perf_counter() - began
        for start in range(end, end + SINGLES):
            one = time.perf_counter()
            await engine.apply(tracks.batch(start, start + 1))
            followed.take(await engine.take_changes())
            singles.append(time.perf_counter() - one)
        findings = tracks.findings(followed.lists, end + SINGLES, size.audited)
    finally:
        await engine.stop()
    return EngineRates(
        "behind its pipe", size.events / took, batches, singles, machine.load_average(), findings, {}
    )


def measure_engine(size: CatalogueSize) -> tuple[float, SyntheticTracks, StoredLists]:
    """Measure one size and print its table.

    Returns:
        Events a second of the engine, the tracks, and the lists of the first `size.tracks`, for peers to start from.
    """
    tracks = SyntheticTracks.make(size.tracks + size.events + SINGLES, size.dimension)
    followed = FollowedLists(tracks.keys)
    gflops = machine.gemm_gflops(size.tracks, size.dimension, BATCH)
    alone, filled = _in_process(size, tracks, followed)
    # Lists at the size to start from: exact by the audit above, recomputed for the smaller catalogue.
    lists = exact_lists(tracks, size.tracks)
    piped = asyncio.run(_behind_pipe(size, tracks, lists))
    gflops = max(gflops, machine.gemm_gflops(size.tracks, size.dimension, BATCH))
    limit = gflops * 1e9 / (2.0 * size.tracks * size.dimension)
    table = report.make_table(
        f"Engine alone, {size}: inserts in batches of {BATCH}, then one by one",
        "what",
        "events/s",
        "of product's limit",
        "batch p50 ms",
        "p99",
        "single p50 ms",
        "p99",
        "recall@50",
        "audited",
        "load",
    )
    for row in (alone, piped):
        batch, single = report.percentiles(row.batches), report.percentiles(row.singles)
        table.add_row(
            row.what,
            f"{row.rate:,.0f}",
            f"{row.rate / limit:.0%}",
            batch[0],
            batch[2],
            single[0],
            single[2],
            f"{row.findings.recall(50):.6f}",
            f"{row.findings.tracks:,}",
            row.load,
        )
    spent = ", ".join(f"{name} {share:.0%}" for name, share in alone.phases.items() if share >= 0.005)
    report.print_table(
        table,
        f"Product's limit: {limit:,.0f} events/s at the {gflops:.0f} GFLOP/s measured here. Filled from nothing at"
        f" {filled:,.0f}/s.\nWhere the engine's time went: {spent}.",
    )
    return alone.rate, tracks, lists


def exact_lists(tracks: SyntheticTracks, count: int) -> StoredLists:
    """The true lists of the first `count` tracks."""
    auditor = Auditor(tracks.keys[:count], tracks.names[:count], tracks.vectors[:count])
    blocks = [
        auditor.nearest(np.arange(start, min(start + auditor.block_rows, count)))
        for start in range(0, count, auditor.block_rows)
    ]
    found = np.concatenate([block[0] for block in blocks])
    return StoredLists(
        keys=tracks.keys[:count],
        neighbours=tracks.keys[found],
        scores=np.concatenate([block[1] for block in blocks]),
        lengths=np.full(count, found.shape[1]),
        events=np.zeros(count, dtype=no_events().dtype),
    )

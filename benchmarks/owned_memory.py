"""Memory a track of a worker's engine that owns the lists of 8, 4, 1 or 0 of eight partitions."""

import ctypes
import gc
import multiprocessing
import time
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks import machine, report
from benchmarks.engine_rates import SyntheticTracks
from benchmarks.sizes import CatalogueSize, chosen_sizes
from streams.engine import acceleration
from streams.engine.exact import ExactEngine
from streams.engine.types import EVENT, StoredLists

SIZES = [CatalogueSize(100_000, 128), CatalogueSize(30_000, 768)]
QUICK = [CatalogueSize(20_000, 128)]
PARTITIONS = 8
OWNED = (8, 4, 1, 0)
PUBLISHED = 50


@dataclass(frozen=True, slots=True)
class OwnedMemory:
    """Bytes a track: all that the process holds more than before, arrays of lists, other arrays."""

    process: float
    lists: float
    others: float


def _held() -> int:
    """Bytes that this process alone holds, what is freed having been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_full_info().uss)


def _any_lists(keys: np.ndarray) -> StoredLists:
    """Lists of full length, of whatever tracks: what they hold does not change what they take."""
    places = (np.arange(len(keys))[:, None] + np.arange(1, PUBLISHED + 1)) % len(keys)
    scores = np.broadcast_to(np.linspace(0.9, 0.5, PUBLISHED, dtype=np.float32), places.shape)
    lengths = np.full(len(keys), PUBLISHED)
    return StoredLists(keys, keys[places], scores.copy(), lengths, np.zeros(len(keys), dtype=EVENT))


def measure(tracks: int, dimension: int, owned: int) -> OwnedMemory:
    """Load an engine in this process, which should be a fresh one, as a worker's start does."""
    engine = ExactEngine(dimension)
    engine.accelerate(acceleration.load_kernels())
    engine.own(range(owned))
    before = _held()
    synthetic = SyntheticTracks.make(tracks, dimension)
    batch = synthetic.batch(0, tracks)
    batch.events["partition"] = np.arange(tracks) % PARTITIONS
    lists = _any_lists(batch.keys)
    engine.load(batch, lists)
    del synthetic, batch, lists
    deadline = time.monotonic() + 60
    while not engine.nearest.projection.ready and time.monotonic() < deadline:
        engine.nearest.prepare()
    engine.take_changes()
    after = _held()
    arrays, total = engine.lists.memory_bytes, engine.stats().memory_bytes
    return OwnedMemory((after - before) / tracks, arrays / tracks, (total - arrays) / tracks)


def main(*, quick: bool = False) -> None:
    """Measure each share in a process of its own and print the table; MESS_BENCH_SIZES names other sizes."""
    table = report.make_table(
        "Memory of an engine, bytes a track",
        "tracks",
        "partitions owned",
        "process",
        "arrays of lists",
        "other arrays",
    )
    context = multiprocessing.get_context("spawn")
    for size in chosen_sizes() or (QUICK if quick else SIZES):
        for owned in OWNED:
            with context.Pool(1) as pool:
                found = pool.apply(measure, (size.tracks, size.dimension, owned))
            table.add_row(
                str(size),
                f"{owned}/{PARTITIONS}",
                f"{found.process:,.0f}",
                f"{found.lists:,.0f}",
                f"{found.others:,.0f}",
            )
    report.print_table(table, f"Load average {machine.load_average()}.")


if __name__ == "__main__":
    main()

"""`mess publish` of a Parquet file, beside a dozen lines over pyarrow, and `mess export`: processor time, peak memory.

Each figure is of a whole process, from its start. Processor time depends least on what else runs.
"""

import asyncio
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr
from rich.table import Table

from benchmarks import filling, machine, processes, report
from mess import migrate
from store import interactions, layouts, lists, tracks
from store.columns import METADATA_FIELDS
from store.pool import open_pool, transaction
from store.rows import ListRows
from store.settings import StoreSettings
from store.tracks import TrackRow
from streams.contracts import TrackMetadata, track_key
from streams.kafka.topics import ensure_topics
from streams.settings import KafkaSettings, StreamSettings

DIMENSION = 128
CHUNK = 50_000
LIST = 50


class Cost(NamedTuple):
    """What a command took: wall and processor seconds, and bytes at its peak."""

    wall: float
    processor: float
    memory: int


def run(module: str, *arguments: str, **settings: str) -> Cost:
    """Run a module as a process to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", module, *arguments],
        processes.environment(**settings),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    # Linux's own peak of a process begins with that of its parent.
    with machine.peak_memory(lambda: {module: pid}) as peaks:
        _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    processor = usage.ru_utime + usage.ru_stime
    return Cost(time.perf_counter() - started, processor, peaks.get(module, 0))


def write_parquet(path: Path, count: int) -> None:
    """Write `count` tracks: an id, a vector of float32, four facts."""
    rng = np.random.default_rng(11)
    vector = pa.list_(pa.float32(), DIMENSION)
    facts = (
        ("title", pa.string()),
        ("composer", pa.string()),
        ("year_composed", pa.int16()),
        ("tags", pa.string()),
    )
    schema = pa.schema([("track_id", pa.string()), ("embedding", vector), *facts])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            vectors = rng.standard_normal(len(numbers) * DIMENSION, dtype=np.float32)
            writer.write_table(
                pa.table(
                    [
                        pa.array([f"track/{number:07d}" for number in numbers]),
                        pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIMENSION),
                        pa.array([f"Piece {number}" for number in numbers]),
                        pa.array([f"Composer {number % 997}" for number in numbers]),
                        pa.array([1600 + number % 400 for number in numbers], pa.int16()),
                        pa.array(["piano, calm" if number % 2 else "organ" for number in numbers]),
                    ],
                    schema=schema,
                )
            )


def publishing(folder: Path, count: int, bootstrap_servers: str) -> Table:
    """Publish a tenth and all of the rows, and a tenth by the peer, which checks nothing."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    asyncio.run(ensure_topics(kafka, StreamSettings(), wait=30))
    table = _table(f"Parquet to a broker, {DIMENSION} dimensions")
    tenth = count // 10
    for path, rows in ((folder / "tenth.parquet", tenth), (folder / "all.parquet", count)):
        write_parquet(path, rows)
        report.progress(f"publishing {rows:,}")
        cost = run("mess", "publish", str(path), MESS_KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers)
        _add(table, f"mess publish, {rows:,} tracks", rows, cost, path)
    report.progress(f"publishing {tenth:,} plainly")
    path = folder / "tenth.parquet"
    _add(
        table,
        f"plain, {tenth:,} tracks",
        tenth,
        run("benchmarks.plain_publisher", str(path), bootstrap_servers),
        path,
    )
    return table


async def fill(database_url: str, count: int) -> None:
    """Write tracks, lists of neighbours drawn by chance, and popularity, as many of each."""
    settings = StoreSettings(database_url=SecretStr(database_url), command_timeout=600)
    rng = np.random.default_rng(12)
    keys = np.array([track_key(f"track/{number:07d}") for number in range(count)], dtype=np.int64)
    async with await open_pool(settings, application_name="benchmark") as pool:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            async with transaction(pool) as connection:
                await tracks.upsert_tracks(connection, [_track(rng, number) for number in numbers])
                await lists.flush_lists(connection, _lists(rng, keys, numbers), np.empty(0, dtype=np.int64))
                chosen = np.sort(keys[numbers.start : numbers.stop]).tolist()
                ones = [1.0] * len(chosen)
                await interactions.add_popularity(
                    connection, chosen, ones, ones, reference=time.time(), half_life=86_400.0
                )
            report.progress(f"{numbers.stop:,} tracks in the store")
        async with transaction(pool) as connection:
            await layouts.fix_layout(connection, layouts.StoredLayout(DIMENSION))
            await filling.write_offsets(connection, count)
        await pool.execute("VACUUM ANALYZE")


def _track(rng: np.random.Generator, number: int) -> TrackRow:
    metadata = TrackMetadata(
        title=f"Piece {number}", composer=f"Composer {number % 997}", tags=("piano", "calm")
    )
    values = tuple(
        list(value) if isinstance(value, tuple) else value
        for value in (getattr(metadata, field) for field in METADATA_FIELDS)
    )
    name = f"track/{number:07d}"
    blob = rng.standard_normal(DIMENSION, dtype=np.float32).tobytes()
    partition, offset = number % filling.PARTITIONS, number // filling.PARTITIONS
    return TrackRow(name, track_key(name), values, blob, partition, offset, datetime.now(UTC))


def _lists(rng: np.random.Generator, keys: np.ndarray, numbers: range) -> ListRows:
    count, moment = len(numbers), time.time_ns() // 1_000
    own = np.arange(numbers.start, numbers.stop)
    steps = np.cumsum(rng.integers(1, max(2, len(keys) // (LIST + 1)), (count, LIST)), axis=1)
    return ListRows(
        keys=keys[own],
        neighbours=keys[(own[:, None] + steps) % len(keys)],
        scores=-np.sort(-rng.random((count, LIST), dtype=np.float32), axis=1),
        lengths=np.full(count, LIST, dtype=np.int64),
        partitions=(own % filling.PARTITIONS).astype(np.int32),
        offsets=own // filling.PARTITIONS,
        event_times=np.full(count, moment),
        versions=np.ones(count, dtype=np.int64),
        generated_at=np.full(count, moment),
    )


def exporting(folder: Path, count: int, database_url: str) -> Table:
    """Every kind in every format."""
    table = _table(f"mess export of {count:,} tracks, {DIMENSION} dimensions, lists of {LIST}")
    for kind in ("lists", "tracks", "popularity"):
        for form in ("parquet", "jsonl", "npz"):
            path = folder / f"{kind}.{form}"
            report.progress(f"exporting {kind} as {form}")
            cost = run("mess", "export", kind, "-o", str(path), MESS_DATABASE_URL=database_url)
            _add(table, f"{kind}, {form}", count, cost, path)
            path.unlink()
    return table


def _table(title: str) -> Table:
    headings = ("what", "rows/processor s", "processor", "wall", "peak memory", "file")
    return report.make_table(f"{title}, load {machine.load_average()}", *headings)


def _add(table: Table, what: str, rows: int, cost: Cost, path: Path) -> None:
    table.add_row(
        what,
        f"{rows / cost.processor:,.0f}",
        f"{cost.processor:,.1f} s",
        f"{cost.wall:,.1f} s",
        report.mebibytes(cost.memory),
        report.mebibytes(path.stat().st_size),
    )


def main(*, quick: bool = False) -> None:
    """Run it and print the tables."""
    published, exported = (100_000, 20_000) if quick else (1_000_000, 200_000)
    with tempfile.TemporaryDirectory(prefix="mess-bench-") as directory:
        folder = Path(directory)
        with processes.services("--data-dir", f"{directory}/services") as facts:
            migrate.upgrade_schema(facts["database_url"])
            asyncio.run(fill(facts["database_url"], exported))
            report.print_table(exporting(folder, exported, facts["database_url"]))
            report.print_table(publishing(folder, published, facts["bootstrap_servers"]))

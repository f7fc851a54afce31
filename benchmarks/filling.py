"""A store with part of the demo catalogue and its exact lists, as a worker leaves it, without a worker."""

import asyncio
import time
from datetime import UTC, datetime

import asyncpg
import numpy as np
from pydantic import SecretStr

from benchmarks import bare
from mess import migrate
from mess.demo import catalogue
from serving.recommend import replies
from serving.recommend.lists import ListReader
from serving.recommend.track_fragments import TrackFragments
from store import lists, materialised, tracks
from store.columns import METADATA_FIELDS
from store.pool import open_pool, transaction
from store.rows import ListRows
from store.settings import StoreSettings
from store.tracks import TrackRow
from streams.contracts import TrackMetadata, finished_body, generation_members, track_key
from streams.engine.similarity import brute_force
from streams.generations import GenerationName
from streams.kafka.topics import TRACK_INGEST

PARTITIONS = 8
# Any but similarity: a stored body is read the same way, whatever it holds.
KEPT_STRATEGY = "popular"
STORE_SECONDS = 30.0


def fill(database_url: str, count: int) -> list[str]:
    """Migrate, and write `count` works, their lists, and a kept body each; returns their ids.

    The kept bodies hold exactly what the lists say, so that both ways of reading send the same bytes; `benchmarks.bare`
    gets them in a table of its own.
    """
    migrate.upgrade_schema(database_url)
    return asyncio.run(_fill(database_url, count))


async def _fill(database_url: str, count: int) -> list[str]:
    demo = catalogue.load_demo_catalogue()
    chosen = np.sort(np.random.default_rng(3).permutation(len(demo))[:count])
    names = [demo.tracks[row].track_id for row in chosen]
    vectors = demo.embeddings[chosen]
    async with await open_pool(
        StoreSettings(database_url=SecretStr(database_url)), application_name="benchmark"
    ) as pool:
        now = datetime.now(UTC)
        rows = []
        for at, (row, name) in enumerate(zip(chosen, names, strict=True)):
            metadata = TrackMetadata.model_validate(demo.tracks[row].metadata)
            values = tuple(
                list(value) if isinstance(value, tuple) else value
                for value in (getattr(metadata, field) for field in METADATA_FIELDS)
            )
            blob = vectors[at].astype("<f4").tobytes()
            rows.append(TrackRow(name, track_key(name), values, blob, at % PARTITIONS, at // PARTITIONS, now))
        async with transaction(pool) as connection:
            await tracks.upsert_tracks(connection, rows)
            await lists.flush_lists(connection, _lists(names, vectors), np.empty(0, dtype=np.int64))
            await write_offsets(connection, count)
        await _keep_bodies(pool, names)
    return names


def _lists(names: list[str], vectors: np.ndarray) -> ListRows:
    ids, scores = brute_force(vectors, names, 50)
    count, moment = len(names), time.time_ns() // 1_000
    return ListRows(
        keys=np.array([track_key(name) for name in names], dtype=np.int64),
        neighbours=np.array([[track_key(other) for other in row] for row in ids], dtype=np.int64),
        scores=np.array(scores, dtype=np.float32),
        lengths=np.full(count, 50, dtype=np.int64),
        partitions=np.arange(count, dtype=np.int32) % PARTITIONS,
        offsets=np.arange(count, dtype=np.int64) // PARTITIONS,
        event_times=np.full(count, moment),
        versions=np.ones(count, dtype=np.int64),
        generated_at=np.full(count, moment),
    )


async def write_offsets(connection: asyncpg.Connection, count: int) -> None:
    """Say that all of `count` events are consumed, and absorbed by every list."""
    end = count // PARTITIONS + 1
    await connection.executemany(
        "INSERT INTO ingest_partitions (partition, epoch, owner, consumed_offset) VALUES ($1, 1, 'benchmark', $2)",
        [(partition, end) for partition in range(PARTITIONS)],
    )
    await connection.executemany(
        "INSERT INTO owner_progress VALUES ($1, $2)",
        [(owner, [end] * PARTITIONS) for owner in range(PARTITIONS)],
    )


async def _keep_bodies(pool: asyncpg.Pool, names: list[str]) -> None:
    stored = ListReader(pool, TrackFragments(pool, 0, STORE_SECONDS), STORE_SECONDS)
    whole, of = [], generation_members(GenerationName())
    for name in names:
        found = await stored.read(name, limit=10)
        assert found is not None
        opened, tag = replies.list_body(found, TRACK_INGEST, 10)
        new = materialised.NewBody(
            key=track_key(name),
            strategy=KEPT_STRATEGY,
            mode=None,
            variant=0,
            question={},
            body=opened + b"}",
            tag=tag,
            members=[track_key(card.track_id) for card, _ in found.neighbours],
            list_version=found.header.version,
            generated_at=found.header.generated_at,
        )
        await materialised.write_bodies(pool, [new])
        whole.append((name, finished_body(opened + b"}", of, cached=True, stale=False, milliseconds=0.1)))
    await pool.execute(f"CREATE TABLE {bare.TABLE} (track_id text PRIMARY KEY, body bytea NOT NULL)")
    await pool.execute(f"ALTER TABLE {bare.TABLE} ALTER COLUMN body SET STORAGE EXTERNAL")
    await pool.copy_records_to_table(bare.TABLE, records=whole)
    await pool.execute("ANALYZE")

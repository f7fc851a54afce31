"""Creates the topics, and records in the store where that begins a new log."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from store import generations, partitions, told
from store.columns import REVISION
from store.errors import SchemaMismatchError, StoreError
from store.pool import current_revision, open_pool, transaction
from store.settings import StoreSettings
from streams.generations import GenerationName
from streams.kafka.clients import admin_client
from streams.kafka.partitioners import describe_placement
from streams.kafka.topics import (
    RECOMMENDATIONS,
    TRACK_INGEST,
    create_generation_topics,
    ensure_topics,
    partition_counts,
    topic_differences,
)
from streams.settings import KafkaSettings, StreamSettings

_MAY_WRITE = "SELECT has_table_privilege('ingest_partitions', 'UPDATE')"


async def make_topics(
    kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings | None, *, wait: float = 0.0
) -> list[str]:
    """Create the topics that do not exist yet, and return their names.

    With a store, these include the topics of its generations and spaces. If one of vectors or lists has been created, the offsets
    in the store refer to a log that is gone. The store records this, so that the new log is read from its start. A store without
    a schema has no offsets.

    Args:
        kafka: how to reach the broker.
        streams: the number of partitions.
        store: the store that is filled from this broker; None if there is none.
        wait: seconds to retry while no broker answers.

    Raises:
        StoreUnavailableError: Postgres cannot be reached; no topic has been created.
        SchemaMismatchError: the schema is another version's; no topic has been created.
        StoreError: the role may not write; no topic has been created.
        BrokerUnavailable: no broker answers, or it refuses this client.
        TopicError: a topic cannot be created as it is wanted.
    """
    async with _migrated(store) as pool:
        created = await ensure_topics(kafka, streams, wait=wait)
        if pool is not None:
            names = await generations.live_generations(pool)
            created += await create_generation_topics(kafka, streams, names)
            async with transaction(pool) as connection:
                await record_new_topics(connection, created, names)
    return created


async def record_new_topics(
    connection: PoolConnectionProxy, created: Collection[str], names: Iterable[GenerationName]
) -> None:
    """Let the store forget what these generations know of topics that have just been created. Must run inside a transaction."""
    for name in names:
        async with generations.tables_of(connection, name):
            if name.topic in created:
                await partitions.begin_new_log(connection)
            if name.feed_topic(RECOMMENDATIONS) in created:
                await told.begin_new_feed(connection)


async def check_topics(
    kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings | None = None
) -> tuple[list[str], list[str]]:
    """What of the topics is not as it is wanted, and how the producers of track-ingest place keys, in lines.

    Args:
        kafka: how to reach the broker.
        streams: the number of partitions.
        store: the store whose generations' topics are looked at, too; None if there is none.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
        BrokerUnavailable: no broker answers, or it refuses this client.
    """
    async with _opened(store) as pool:
        found = None if pool is None else await current_revision(pool)
        names = [] if pool is None or found != REVISION else await generations.live_generations(pool)
    differences = await topic_differences(kafka, streams, names)
    async with admin_client(kafka) as client:
        count = (await partition_counts(client)).get(TRACK_INGEST, 0)
    return differences, await describe_placement(kafka, TRACK_INGEST, count) if count else []


@contextlib.asynccontextmanager
async def _migrated(store: StoreSettings | None) -> AsyncIterator[asyncpg.Pool | None]:
    """The store; None if it has no schema yet.

    It is checked before a topic is created: afterwards nothing shows that the topic is new.
    """
    async with _opened(store) as pool:
        if pool is None:
            yield None
            return
        found = await current_revision(pool)
        if found not in (None, REVISION):
            raise SchemaMismatchError(found, REVISION)
        if found is not None and not await pool.fetchval(_MAY_WRITE):
            raise StoreError(
                "topics are made with the URL of the schema's owner: this role cannot write offsets"
            )
        yield None if found is None else pool


@contextlib.asynccontextmanager
async def _opened(store: StoreSettings | None) -> AsyncIterator[asyncpg.Pool | None]:
    """A connection to the store; None if there is none."""
    if store is None:
        yield None
        return
    one = store.model_copy(update={"pool_min_size": 1, "pool_max_size": 1})
    async with await open_pool(one, application_name="mess-topics") as pool:
        yield pool

"""Creates the topics, and records in the store where that begins a new log."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from store import partitions, told
from store.columns import REVISION
from store.errors import SchemaMismatchError, StoreError
from store.pool import current_revision, open_pool, transaction
from store.settings import StoreSettings
from streams.kafka.clients import admin_client
from streams.kafka.partitioners import describe_placement
from streams.kafka.topics import (
    RECOMMENDATIONS,
    TRACK_INGEST,
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

    If `track-ingest` or `recommendations` is one of them, the offsets in the store refer to a log that is gone. The store
    records this, so that the new log is read from its start. A store without a schema has no offsets.

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
            async with transaction(pool) as connection:
                if TRACK_INGEST in created:
                    await partitions.begin_new_log(connection)
                if RECOMMENDATIONS in created:
                    await told.begin_new_feed(connection)
    return created


async def check_topics(kafka: KafkaSettings, streams: StreamSettings) -> tuple[list[str], list[str]]:
    """What of the topics is not as it is wanted, and how the producers of track-ingest place keys, in lines.

    Raises:
        BrokerUnavailable: no broker answers, or it refuses this client.
    """
    differences = await topic_differences(kafka, streams)
    async with admin_client(kafka) as client:
        count = (await partition_counts(client)).get(TRACK_INGEST, 0)
    return differences, await describe_placement(kafka, TRACK_INGEST, count) if count else []


@contextlib.asynccontextmanager
async def _migrated(store: StoreSettings | None) -> AsyncIterator[asyncpg.Pool | None]:
    """The store; None if it has no schema yet.

    It is checked before a topic is created: afterwards nothing shows that the topic is new.
    """
    if store is None:
        yield None
        return
    one = store.model_copy(update={"pool_min_size": 1, "pool_max_size": 1})
    async with await open_pool(one, application_name="mess-topics") as pool:
        found = await current_revision(pool)
        if found not in (None, REVISION):
            raise SchemaMismatchError(found, REVISION)
        if found is not None and not await pool.fetchval(_MAY_WRITE):
            raise StoreError(
                "topics are made with the URL of the schema's owner: this role cannot write offsets"
            )
        yield None if found is None else pool

"""`mess topics create` between a broker and a store that knew another one."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from mess.cli import build_cli
from mess.spaces import lifecycle
from store import partitions
from store.pool import open_pool
from store.settings import StoreSettings
from streams.generations import GenerationName
from streams.kafka.topics import RECOMMENDATIONS, delete_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.support.services import KafkaBroker, PostgresServer, renewed

pytestmark = pytest.mark.integration


@pytest.fixture
def new_broker(tansu_broker: KafkaBroker) -> str:
    """A broker without topics; which one makes no difference here, and this one starts at once."""
    return renewed(tansu_broker, topics=False).bootstrap_servers


async def create(servers: str, database_url: str) -> Result:
    """Run the command, whose loop must not meet the one of the tests."""
    environment = {"MESS_KAFKA_BOOTSTRAP_SERVERS": servers, "MESS_DATABASE_URL": database_url}
    arguments = ["topics", "create", "--wait", "10"]
    return await asyncio.to_thread(CliRunner().invoke, build_cli(), arguments, env=environment)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's store, in which partition 3 has been consumed up to 501."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        claims = await partitions.claim_partitions(connection, [2, 3], "one")  # type: ignore[arg-type]
        await partitions.advance_consumed(connection, {3: claims[3].epoch}, {3: 501})  # type: ignore[arg-type]
    yield connection
    await connection.close()


async def test_an_ingest_topic_that_had_to_be_made_is_read_from_its_start(
    new_broker: str, database_url: str, store: asyncpg.Connection
) -> None:
    """The command tells the store of the new log, and of none where the topics are there."""
    done = await create(new_broker, database_url)
    assert (done.exit_code, done.output.count("track-ingest")) == (0, 1), done.output
    assert await partitions.consumed_offsets(store) == {2: 0, 3: 0}  # type: ignore[arg-type]
    await store.execute("UPDATE ingest_partitions SET consumed_offset = 7")
    done = await create(new_broker, database_url)
    assert (done.exit_code, done.output.strip()) == (0, "All topics are there.")
    assert await partitions.consumed_offsets(store) == {2: 7, 3: 7}  # type: ignore[arg-type]


async def test_topics_of_a_space_are_made_again(
    new_broker: str, database_url: str, store: asyncpg.Connection
) -> None:
    """With them, the store forgets what the space's generation had consumed and told; the catalogue's offsets stay."""
    kafka = KafkaSettings(bootstrap_servers=new_broker)
    melody = GenerationName("melody", 1)
    topics = {melody.topic, melody.feed_topic(RECOMMENDATIONS)}
    assert (await create(new_broker, database_url)).exit_code == 0
    await store.execute("UPDATE ingest_partitions SET consumed_offset = 7")
    settings = StoreSettings(database_url=SecretStr(database_url))
    async with await open_pool(settings, application_name="test") as pool:
        await lifecycle.create(kafka, StreamSettings(), pool, space="melody")
    await store.execute(f"INSERT INTO {melody.schema}.ingest_partitions SELECT * FROM ingest_partitions")
    await store.execute(
        f"INSERT INTO {melody.schema}.told_lists (key, feed_partition, feed_offset, version, neighbours)"
        r" VALUES (1, 0, 0, 1, '\x')"
    )
    environment = {"MESS_KAFKA_BOOTSTRAP_SERVERS": new_broker, "MESS_DATABASE_URL": database_url}

    async def missing() -> set[str]:
        done = await asyncio.to_thread(CliRunner().invoke, build_cli(), ["topics", "check"], env=environment)
        return {line.removesuffix(" is missing") for line in done.output.splitlines() if "missing" in line}

    assert await missing() == set()
    await delete_topics(kafka, topics)
    assert await missing() == topics
    done = await create(new_broker, database_url)
    assert set(done.output.strip().removeprefix("created: ").split(", ")) == topics
    assert await missing() == set()
    assert await store.fetchval(f"SELECT count(*) FROM {melody.schema}.told_lists") == 0
    assert await store.fetchval(f"SELECT max(consumed_offset) FROM {melody.schema}.ingest_partitions") == 0
    assert await partitions.consumed_offsets(store) == {2: 7, 3: 7}  # type: ignore[arg-type]
    await delete_topics(kafka, topics)


async def test_no_topic_is_made_while_the_store_cannot_be_told_of_it(
    new_broker: str,
    postgres_server: PostgresServer,
    database_url: str,
    api_database_url: str,
    empty_database_url: str,
) -> None:
    """A store that is away or may not be written costs one line and a hint; one without a schema has nothing to be told."""
    away = await create(new_broker, postgres_server.owner_url_of("no_such_database"))
    assert away.exit_code == 2
    assert "Postgres is not available" in away.output.splitlines()[0]
    assert "or set MESS_DATABASE_URL" in away.output.splitlines()[1]
    reader = await create(new_broker, api_database_url)
    assert reader.exit_code == 2
    assert "schema's owner" in reader.output
    assert (len(away.output.splitlines()), len(reader.output.splitlines())) == (2, 1)
    fresh = await create(new_broker, empty_database_url)
    assert (fresh.exit_code, fresh.output[:9]) == (0, "created: ")

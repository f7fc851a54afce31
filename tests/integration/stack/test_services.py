"""The services that the other integration tests stand on."""

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.services import KafkaBroker, PostgresServer, unique_name

pytestmark = pytest.mark.integration


async def test_each_database_is_its_own(postgres_server: PostgresServer, database_url: str) -> None:
    """A test's database has the schema, belongs to the owner's role, and is not the template."""
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM tracks") == 0
        assert await connection.fetchval("SELECT current_user") == "mess"
        assert (await connection.fetchval("SELECT current_database()")).startswith("test_")
    finally:
        await connection.close()


async def test_the_api_role_cannot_write(api_database_url: str) -> None:
    """The API's role is refused a write even if it asks for a read-write transaction."""
    connection = await asyncpg.connect(api_database_url)
    try:
        await connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM tracks")
    finally:
        await connection.close()


async def test_the_broker_carries_messages(kafka_broker: KafkaBroker) -> None:
    """What is produced to a new topic is consumed from it, key, value and headers."""
    topic = unique_name("services")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"value", key=b"key", headers=[("name", b"header")])
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_broker.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert (record.key, record.value, record.headers) == (b"key", b"value", (("name", b"header"),))

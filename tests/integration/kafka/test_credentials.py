"""Every client logs in to a broker that asks who it is, and takes up what has been rotated without a restart."""

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import BrokerUnavailable
from streams.kafka import credentials
from streams.kafka.clients import aiokafka_options, start_producer
from streams.kafka.topic_copies import dump_topic
from streams.kafka.topics import TRACK_INGEST, ensure_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.integration.kafka.secured import USER, Authority, SecuredBroker, secured_broker
from tests.support.polling import until
from tests.support.services import require_kafka, unique_name
from tests.support.worker import WorkerProcess, track_message

pytestmark = pytest.mark.integration

PASSWORDS = ("first-of-three-0123456789", "second-of-three-0123456789")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """The secured broker, for this module."""
    require_kafka()
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        yield running


def _by_password(broker: SecuredBroker, file: Path, **more: Any) -> dict[str, str]:
    return {
        "bootstrap_servers": broker.scram,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER,
        "sasl_password_file": str(file),
        "ssl_cafile": str(broker.authority.ca),
        **more,
    }


async def _copied(kafka: KafkaSettings) -> int:
    return await dump_topic(kafka, TRACK_INGEST, lambda _: None)


async def test_worker_and_commands_log_in_by_a_password_that_is_rotated_under_them(
    broker: SecuredBroker, database_url: str, tmp_path: Path
) -> None:
    """The broker cuts logins that have lasted; with the next one the worker takes up the password that is valid by then."""
    file = tmp_path / "password"
    file.write_text(PASSWORDS[0] + "\n")
    await asyncio.to_thread(broker.set_password, PASSWORDS[0])
    settings = _by_password(broker, file)
    kafka = KafkaSettings(**settings)
    assert TRACK_INGEST in await ensure_topics(kafka, StreamSettings(ingest_partitions=1), wait=10)
    variables = {f"MESS_KAFKA_{name.upper()}": value for name, value in settings.items()}
    group = unique_name("workers")
    worker = WorkerProcess(
        database_url,
        broker.scram,
        tmp_path / "log",
        **variables,
        MESS_CONSUMER_GROUP=group,
        MESS_MAP_LAYOUT="false",
    )
    store = await asyncpg.connect(database_url)
    worker.start()
    try:
        for password, track in zip(PASSWORDS, ("one", "two"), strict=True):
            if password != PASSWORDS[0]:
                await asyncio.to_thread(broker.set_password, password)
                file.write_text(password)
            producer = await start_producer(kafka)
            await producer.send_and_wait(
                TRACK_INGEST, **dict(zip(("key", "value"), track_message(track, [1.0, 2.0]), strict=True))
            )
            await producer.stop()

            async def stored(wanted: str = track) -> bool:
                return bool(await store.fetchval("SELECT count(*) FROM tracks WHERE track_id = $1", wanted))

            await until(stored)
        assert worker.process is not None
        assert worker.process.poll() is None
        assert await _copied(kafka) == 2
        with pytest.raises(BrokerUnavailable):
            await start_producer(
                KafkaSettings(
                    **_by_password(broker, tmp_path / "log", sasl_password_file=None, sasl_password="x")
                )
            )
    finally:
        worker.stop()
        await store.close()


async def test_a_producer_takes_up_a_rotated_password(broker: SecuredBroker, tmp_path: Path) -> None:
    """One that stays open, over a connection that the broker has cut in between."""
    file = tmp_path / "password"
    file.write_text(PASSWORDS[0])
    await asyncio.to_thread(broker.set_password, PASSWORDS[0])
    kafka = KafkaSettings(**_by_password(broker, file))
    await ensure_topics(kafka, StreamSettings(ingest_partitions=1), wait=10)
    producer = await start_producer(kafka)
    try:
        await producer.send_and_wait(TRACK_INGEST, key=b"k", value=b"{}")
        await asyncio.to_thread(broker.set_password, PASSWORDS[1])
        file.write_text(PASSWORDS[1])
        connections = dict(producer.client._conns)
        # Used until the broker cuts it.
        deadline = time.monotonic() + 60
        while any(connection.connected() for connection in connections.values()):
            assert time.monotonic() < deadline
            await producer.send_and_wait(TRACK_INGEST, key=b"k", value=b"{}")
        await producer.send_and_wait(TRACK_INGEST, key=b"k", value=b"{}")
    finally:
        await producer.stop()


async def test_a_client_certificate_is_shown_and_taken_up_when_it_is_renewed(
    broker: SecuredBroker, tmp_path: Path
) -> None:
    """Without one of the right authority nobody is let in; the file is read again for each connection."""
    certificate = tmp_path / "client.pem"
    certificate.write_bytes(Authority(tmp_path / "others").certificate("client").read_bytes())
    kafka = KafkaSettings(
        bootstrap_servers=broker.mtls,
        security_protocol="SSL",
        ssl_cafile=broker.authority.ca,
        ssl_certfile=certificate,
    )
    # As a client that lives for long keeps them.
    options = aiokafka_options(kafka)
    refused = AIOKafkaProducer(**options)
    with pytest.raises(KafkaError):
        await refused.start()
    await refused.stop()
    certificate.write_bytes(broker.authority.certificate("client").read_bytes())
    producer = AIOKafkaProducer(**options)
    await producer.start()
    await producer.stop()
    await ensure_topics(kafka, StreamSettings(ingest_partitions=1), wait=10)


async def test_tokens_of_iam_are_handed_to_the_broker_at_each_login(
    broker: SecuredBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that this broker takes stands in for Amazon's; what it refuses is an error, and no endless wait."""
    monkeypatch.setattr(credentials.IamTokens, "_sign", lambda _: _unsigned_token())
    kafka = KafkaSettings(
        bootstrap_servers=broker.token,
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        iam_region="eu-central-1",
        ssl_cafile=broker.authority.ca,
    )
    producer = await start_producer(kafka)
    await producer.stop()
    monkeypatch.setattr(credentials.IamTokens, "_sign", lambda _: "nonsense")
    with pytest.raises(BrokerUnavailable):
        await start_producer(kafka)


def _unsigned_token() -> str:
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": "mess", "iat": now, "exp": now + 600})
    return ".".join(base64.urlsafe_b64encode(orjson.dumps(part)).decode().rstrip("=") for part in parts) + "."

"""backup.sh and restore.sh with a Postgres and a Kafka that others run."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from streams.kafka.clients import start_producer
from streams.kafka.topic_copies import dump_topic
from streams.kafka.topics import TRACK_INGEST, TRACK_INTERACTIONS
from streams.settings import KafkaSettings
from tests.integration.docker.on_host import Deployment
from tests.support.services import KafkaBroker, renewed

pytestmark = pytest.mark.integration


@pytest.fixture
def broker(kafka_broker: KafkaBroker) -> KafkaBroker:
    """A broker with empty topics."""
    return renewed(kafka_broker)


async def _fill(database_url: str, broker: KafkaBroker) -> None:
    """One track in the store, one message in each topic that is copied."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
        r" VALUES ('a track', 7, '\x0000803f', 0, 0, now())"
    )
    await connection.close()
    producer = await start_producer(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
    for topic in (TRACK_INGEST, TRACK_INTERACTIONS):
        await producer.send_and_wait(topic, key=b"a track", value=topic.encode())
    await producer.stop()


async def _stored(database_url: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT * FROM tracks ORDER BY track_id")
    readable = await connection.fetchval("SELECT has_table_privilege('mess_api', 'tracks', 'SELECT')")
    await connection.close()
    return [*map(tuple, rows), (readable,)]


async def _empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM tracks")
    await connection.close()


async def _copied(broker: KafkaBroker) -> list[bytes]:
    lines: list[bytes] = []
    for topic in (TRACK_INGEST, TRACK_INTERACTIONS):
        await dump_topic(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), topic, lines.append)
    return lines


def test_what_others_run_is_backed_up_and_restored(
    tmp_path: Path, database_url: str, empty_database_url: str, broker: KafkaBroker
) -> None:
    """The dump is of the Postgres of the settings, the copies of its Kafka; restored, both hold what they held."""
    asyncio.run(_fill(database_url, broker))
    stored, copied = asyncio.run(_stored(database_url)), asyncio.run(_copied(broker))
    done = Deployment(tmp_path / "one", database_url, broker).run("backup.sh", tmp_path)
    assert done.returncode == 0, done.stderr
    [backup] = tmp_path.glob("mess-*")
    renewed(broker)

    other = Deployment(tmp_path / "two", empty_database_url, broker)
    # Into a new database, and into one that has the schema.
    for source in ("postgres", "both"):
        done = other.run("restore.sh", "--from", source, backup)
        assert done.returncode == 0, done.stderr
        assert asyncio.run(_stored(empty_database_url)) == stored
        if source == "postgres":
            asyncio.run(_empty(empty_database_url))
    assert asyncio.run(_copied(broker)) == copied
    assert not [call for call in other.calls() if call.endswith((" kafka", " postgres"))]


def test_a_database_that_holds_tracks_is_left_alone(
    tmp_path: Path, database_url: str, broker: KafkaBroker
) -> None:
    """A restore on top of a catalogue is refused, and changes nothing."""
    asyncio.run(_fill(database_url, broker))
    deployment = Deployment(tmp_path / "one", database_url, broker)
    assert (deployment.run("backup.sh", tmp_path)).returncode == 0
    [backup] = tmp_path.glob("mess-*")
    stored = asyncio.run(_stored(database_url))
    done = deployment.run("restore.sh", "--from", "postgres", backup)
    assert (done.returncode, "holds tracks already" in done.stderr) == (1, True)
    assert asyncio.run(_stored(database_url)) == stored


def test_a_postgres_that_does_not_answer_is_no_backup(
    tmp_path: Path, database_url: str, broker: KafkaBroker
) -> None:
    """It fails with the reason of pg_dump, and leaves no directory that looks like a backup."""
    away = database_url.rpartition("/")[0].rpartition(":")[0] + ":1/mess"
    done = Deployment(tmp_path / "one", away, broker).run("backup.sh", tmp_path)
    assert done.returncode != 0
    assert "Connection refused" in done.stderr
    assert not list(tmp_path.glob("*mess-*"))

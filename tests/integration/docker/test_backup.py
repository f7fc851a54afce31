"""backup.sh and restore.sh with a Postgres and a Kafka that others run."""

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from mess.spaces import lifecycle
from store.pool import open_pool
from store.settings import StoreSettings
from streams.generations import GenerationName
from streams.kafka.clients import start_producer
from streams.kafka.topic_copies import dump_topic
from streams.kafka.topics import RECOMMENDATIONS, TRACK_INGEST, TRACK_INTERACTIONS, delete_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.integration.docker.on_host import Deployment
from tests.support.services import KafkaBroker, renewed, unique_name

pytestmark = pytest.mark.integration

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "of the bucket"}
PASSWORD = "MESS_BACKUP_PASSWORD=c2b7a1f09d3e48566a"


MELODY = GenerationName("melody", 1)
TOPICS = (TRACK_INGEST, TRACK_INTERACTIONS, MELODY.topic)


@pytest.fixture
def broker(kafka_broker: KafkaBroker) -> KafkaBroker:
    """A broker with empty topics."""
    return _emptied(kafka_broker)


def _emptied(broker: KafkaBroker) -> KafkaBroker:
    """The broker with topics that are made anew, and none of a further space."""
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    asyncio.run(delete_topics(kafka, [MELODY.topic, MELODY.feed_topic(RECOMMENDATIONS)]))
    return renewed(broker)


async def _fill(database_url: str, broker: KafkaBroker) -> None:
    """One track and a further space in the store, one message in each topic that is copied."""
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    async with await open_pool(
        StoreSettings(database_url=SecretStr(database_url)), application_name="test"
    ) as pool:
        await lifecycle.create(kafka, StreamSettings(), pool, space="melody")
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
        r" VALUES ('a track', 7, '\x0000803f', 0, 0, now())"
    )
    await connection.execute(f"INSERT INTO {MELODY.schema}.tracks SELECT * FROM tracks")
    await connection.close()
    producer = await start_producer(kafka)
    for topic in TOPICS:
        await producer.send_and_wait(topic, key=b"a track", value=topic.encode())
    await producer.stop()


async def _stored(database_url: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT * FROM tracks ORDER BY track_id")
    rows += await connection.fetch(f"SELECT track_id, embedding FROM {MELODY.schema}.tracks")
    readable = await connection.fetchval("SELECT has_table_privilege('mess_api', 'tracks', 'SELECT')")
    await connection.close()
    return [*map(tuple, rows), (readable,)]


async def _empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM tracks")
    await connection.close()


async def _copied(broker: KafkaBroker) -> list[bytes]:
    lines: list[bytes] = []
    for topic in TOPICS:
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
    _emptied(broker)

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


class Storage:
    """A bucket of an S3 on this machine."""

    def __init__(self, url: str) -> None:
        self.bucket = unique_name("backups")
        self.repository = f"s3:{url}/{self.bucket}/mess"
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self.client.create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )

    def objects(self) -> dict[str, bytes]:
        """All that the bucket holds."""
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {
            each["Key"]: self.client.get_object(Bucket=self.bucket, Key=each["Key"])["Body"].read()
            for each in listed
        }


@pytest.fixture
def _restic() -> None:
    """Go on only where restic is there; in CI it has to be."""
    if shutil.which("restic") is None:
        missing = "NOT CHECKED: backups sent away, for want of restic (apt-get install restic)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)


@pytest.fixture
def storage(_restic: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An S3 with an empty bucket, whose credentials the environment has."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield Storage(f"http://127.0.0.1:{port}")
    server.stop()


def test_backups_are_sent_to_s3_encrypted_and_restored_from_there(
    tmp_path: Path, database_url: str, empty_database_url: str, broker: KafkaBroker, storage: Storage
) -> None:
    """Nothing of them can be read there; the retention removes old ones; another machine restores with the password alone."""
    asyncio.run(_fill(database_url, broker))
    stored = asyncio.run(_stored(database_url))
    settings = [f"MESS_BACKUP_REPOSITORY={storage.repository}", PASSWORD]
    keeping_one = [*settings, "MESS_BACKUP_RETENTION=--keep-last 1"]
    deployment = Deployment(tmp_path / "one", database_url, broker, keeping_one)
    for _ in range(2):
        done = deployment.run("backup.sh", tmp_path / "backups")
        assert done.returncode == 0, done.stderr
    held = storage.objects()
    assert not [key for key, content in held.items() if b"postgres.dump" in content or b"PGDMP" in content]
    newest = max((tmp_path / "backups").glob("mess-*")).name
    listed = deployment.run("backup.sh", "--list").stdout
    assert (newest in listed, listed.count("mess-2")) == (True, 1), listed
    shutil.rmtree(tmp_path / "backups")

    stranger = Deployment(
        tmp_path / "two", empty_database_url, broker, [*settings[:1], PASSWORD[:-6] + "000000"]
    )
    done = stranger.run("restore.sh", "--from", "postgres", "repository:latest")
    assert (done.returncode, "wrong password" in done.stderr) == (1, True), done.stderr
    successor = Deployment(tmp_path / "three", empty_database_url, broker, settings)
    done = successor.run("restore.sh", "--from", "postgres", "repository:latest")
    assert done.returncode == 0, done.stderr
    assert asyncio.run(_stored(empty_database_url)) == stored
    assert not (tmp_path / "three" / "fetched").exists()


@pytest.mark.usefixtures("_restic")
def test_a_backup_that_cannot_be_sent_is_told_and_kept_here(
    tmp_path: Path, database_url: str, broker: KafkaBroker
) -> None:
    """The status says so, with restic's reason."""
    further = ["MESS_BACKUP_REPOSITORY=/proc/nowhere", PASSWORD]
    done = Deployment(tmp_path / "one", database_url, broker, further).run("backup.sh", tmp_path)
    assert done.returncode == 1
    assert "is whole, and was not sent: restic says above why" in done.stderr
    assert "/proc/nowhere" in done.stderr
    assert list(tmp_path.glob("mess-*"))

"""The embedded servers: real Postgres, real Apache Kafka, real Tansu, under the real supervisor."""

import asyncio
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from mess.stack import postgres as postgres_module
from mess.stack.broker import BrokerChoice, prepare_broker
from mess.stack.classes import ClassArchive
from mess.stack.errors import ServiceFailedError, StackError
from mess.stack.jars import kafka_jars
from mess.stack.java import find_java
from mess.stack.kafka import EmbeddedKafka
from mess.stack.ports import pick_free
from mess.stack.postgres import EmbeddedPostgres
from mess.stack.service import ServiceSpec
from mess.stack.supervisor import Supervisor
from tests.support.polling import until
from tests.support.services import require_kafka

pytestmark = pytest.mark.integration


@pytest.fixture(params=["kafka", "tansu"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each broker; Apache Kafka is left out, saying so, only where it cannot run."""
    if request.param == "kafka":
        require_kafka()
    return str(request.param)


@asynccontextmanager
async def supervised(*services: ServiceSpec) -> AsyncIterator[Supervisor]:
    """Run services around a block."""
    supervisor = Supervisor()
    try:
        for service in services:
            await supervisor.start(service)
        yield supervisor
    finally:
        await supervisor.stop()


def embedded(directory: Path, port: int | None = None) -> EmbeddedPostgres:
    """A cluster in a test's directory."""
    return EmbeddedPostgres(
        directory / "postgres", port or pick_free(1)[0], directory / "postgres.log", durable=False
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that has been initialised and not started; tests copy it before they break it."""
    directory = tmp_path_factory.mktemp("cluster")
    embedded(directory).prepare()
    return directory


@pytest.fixture
def copied(cluster: Path, tmp_path: Path) -> Path:
    """A copy of the cluster for this test alone."""
    shutil.copytree(cluster, tmp_path / "copy")
    return tmp_path / "copy"


async def test_postgres_keeps_its_data_over_restarts(copied: Path) -> None:
    """What the owner wrote is there after a stop and a start on another port; the API's role is read-only."""
    for port in pick_free(2):
        server = embedded(copied, port)
        server.prepare()
        async with supervised(server.service()):
            await server.ensure_roles()
            owner = await asyncpg.connect(server.owner_url)
            await owner.execute("CREATE TABLE IF NOT EXISTS runs (port int)")
            await owner.execute("INSERT INTO runs VALUES ($1)", port)
            ports = [row["port"] for row in await owner.fetch("SELECT port FROM runs")]
            await owner.close()
            reader = await asyncpg.connect(server.api_url)
            assert await reader.fetchval("SHOW transaction_read_only") == "on"
            await reader.close()
    assert len(ports) == 2


async def test_postgres_wants_a_password(copied: Path) -> None:
    """A loopback port is open to every user of the machine, so no role gets in without its password."""
    server = embedded(copied)
    passwords = copied / "postgres-passwords.json"
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    async with supervised(server.service()):
        for role in ("postgres", "mess", "mess_api"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(server.url(role, "guess", "postgres"))


async def test_postgres_carries_pgvector(copied: Path) -> None:
    """The benchmark against pgvector finds the extension in the same server."""
    server = embedded(copied)
    async with supervised(server.service()):
        admin = await asyncpg.connect(server.admin_url)
        await admin.execute("CREATE EXTENSION vector")
        assert await admin.fetchval("SELECT '[3,4]'::vector <-> '[0,0]'::vector") == 5.0
        await admin.close()


async def test_postgres_comes_back_after_a_kill(copied: Path) -> None:
    """A server that is killed is started again, and its stale pid file is no obstacle."""
    server = embedded(copied)
    async with supervised(server.service()) as supervisor:
        first = supervisor.pids["postgres"]
        os.kill(first, 9)
        await until(lambda: supervisor.pids.get("postgres", first) != first)
        await until(server.service().probe)
        connection = await asyncpg.connect(server.admin_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_a_pid_file_of_a_stranger_is_no_obstacle(copied: Path) -> None:
    """A pid file left behind, whose number another program has by now, does not stop the server."""
    (copied / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n{copied / 'postgres'}\n")
    server = embedded(copied)
    server.prepare()
    async with supervised(server.service()) as supervisor:
        assert "postgres" in supervisor.pids


async def test_a_running_postgres_is_not_started_twice(copied: Path) -> None:
    """A second server on the same cluster is refused with the first one's process."""
    server = embedded(copied)
    async with supervised(server.service()) as supervisor:
        with pytest.raises(
            StackError, match=rf"already running on .*\(process {supervisor.pids['postgres']}\)"
        ):
            embedded(copied).prepare()


async def test_a_port_in_use_is_said_in_one_line(copied: Path) -> None:
    """A server whose port somebody took says so in its one-line error."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = embedded(copied, other.getsockname()[1])
        with pytest.raises(
            ServiceFailedError, match=r"^postgres exited with status 1 \(FATAL: .*\); its log is"
        ):
            async with supervised(server.service()):
                pass


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("global/pg_control", r"broken: global/pg_control is missing"),
        ("PG_VERSION", r"broken: it holds files but no PG_VERSION"),
        ("../postgres-passwords.json", r"passwords .* are gone"),
    ],
)
def test_a_broken_cluster_is_one_line(copied: Path, broken: str, reason: str) -> None:
    """The missing file is named, and nothing is created over the remaining data."""
    (copied / "postgres" / broken).unlink()

    def look() -> str:
        server = embedded(copied)
        server.prepare()
        return server.owner_url

    with pytest.raises(StackError, match=reason):
        look()
    assert (copied / "postgres" / "base").exists()


def test_a_cluster_of_another_version_is_one_line(copied: Path) -> None:
    """A cluster of another major version is named, not started."""
    (copied / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="is of Postgres 16, this is 18"):
        embedded(copied).prepare()


async def test_a_corrupt_cluster_says_what_postgres_says(copied: Path) -> None:
    """Damage that only the server notices comes out as its own last complaint."""
    (copied / "postgres" / "global" / "pg_control").write_bytes(os.urandom(8192))
    server = embedded(copied)
    server.prepare()
    with pytest.raises(ServiceFailedError, match="FATAL: "):
        async with supervised(server.service()):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another way to run Postgres")
async def test_root_without_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where user namespaces are forbidden root's Postgres runs as `nobody`, and again so after that."""
    (tmp_path / "bin").mkdir()
    blocked = tmp_path / "bin" / "unshare"
    blocked.write_text("#!/bin/sh\nexit 1\n")
    blocked.chmod(0o755)
    postgres_module._root_prefix.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{blocked.parent}{os.pathsep}{os.environ['PATH']}")
        server = embedded(tmp_path)
        server.prepare()
        async with supervised(server.service()):
            assert (tmp_path / "postgres").stat().st_uid != 0
    postgres_module._root_prefix.cache_clear()
    async with supervised(embedded(tmp_path).service()) as supervisor:
        assert "postgres" in supervisor.pids


async def test_a_broker_carries_what_the_pipeline_needs(kind: str, tmp_path: Path) -> None:
    """Compacted topics with configuration, every compression, tombstones, headers, and messages of 6 MB."""
    ports = iter(pick_free(2))
    broker = prepare_broker(
        BrokerChoice(kind), tmp_path, tmp_path / "broker.log", lambda _: next(ports), lambda _: None
    )
    async with supervised(broker.service):
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        config = {"cleanup.policy": "compact", "max.message.bytes": str(8 * 2**20)}
        answer = await admin.create_topics([NewTopic("t", 1, 1, topic_configs=config)])
        assert [error[1] for error in answer.topic_errors] == [0]
        await admin.close()
        large = os.urandom(6_000_000)
        sent = []
        for compression in (None, "gzip", "lz4", "snappy", "zstd"):
            async with AIOKafkaProducer(
                bootstrap_servers=broker.bootstrap_servers,
                compression_type=compression,
                max_request_size=8 * 2**20,
            ) as producer:
                for value in (b"v" * 1000, None, large):
                    await producer.send_and_wait("t", value, key=b"k", headers=[("h", b"1")])
                    sent.append(value)
        async with AIOKafkaConsumer(
            "t", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest"
        ) as consumer:
            records = [await consumer.getone() for _ in sent]
        assert [record.value for record in records] == sent
        assert {record.headers for record in records} == {(("h", b"1"),)}


async def test_a_restarted_broker_keeps_what_it_says_it_keeps(kind: str, tmp_path: Path) -> None:
    """Apache Kafka has its topics and committed offsets after a restart; Tansu starts empty."""
    ports = pick_free(2)

    def prepare() -> ServiceSpec:
        names = iter(ports)
        broker = prepare_broker(
            BrokerChoice(kind), tmp_path, tmp_path / "broker.log", lambda _: next(names), lambda _: None
        )
        assert broker.bootstrap_servers == f"127.0.0.1:{ports[0]}"
        assert broker.keeps_topics == (kind == "kafka")
        return broker.service

    address, partition = f"127.0.0.1:{ports[0]}", TopicPartition("t", 0)
    async with supervised(prepare()):
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=address) as producer:
            await producer.send_and_wait("t", b"kept")
        async with AIOKafkaConsumer(bootstrap_servers=address, group_id="g") as consumer:
            consumer.assign([partition])
            await consumer.commit({partition: 1})
    async with (
        supervised(prepare()),
        AIOKafkaConsumer(bootstrap_servers=address, group_id="g") as consumer,
    ):
        topics = await consumer.topics()
        assert ("t" in topics) == (kind == "kafka")
        if kind == "kafka":
            consumer.assign([partition])
            committed = None
            for _ in range(100):
                # aiokafka reads "nothing committed" while the broker still loads its groups.
                if (committed := await consumer.committed(partition)) is not None:
                    break
                await asyncio.sleep(0.2)
            assert committed == 1
            await consumer.seek_to_beginning(partition)
            assert (await consumer.getone()).value == b"kept"


def test_kafkas_classes_are_archived_once_and_a_broken_archive_harms_nothing(tmp_path: Path) -> None:
    """The first log formatted on a machine leaves an archive for later runs; one full of noise is passed over."""
    require_kafka()
    jars = tmp_path / "jars"
    jars.symlink_to(kafka_jars(lambda _: None))
    archive = ClassArchive(find_java(), jars)

    def format_a_log(name: str) -> list[str]:
        ports = pick_free(2)
        kafka = EmbeddedKafka(
            tmp_path / name, find_java(), jars, port=ports[0], controller_port=ports[1], log=tmp_path / "log"
        )
        kafka.prepare(lambda _: None)
        assert (tmp_path / name / "log" / "meta.properties").exists()
        return [str(part) for part in kafka.service().argv]

    assert archive.options() == []
    use = f"-XX:SharedArchiveFile={archive.path}"
    assert use in format_a_log("first")
    written = archive.path.stat()
    assert written.st_size > 1_000_000
    format_a_log("second")
    assert archive.path.stat().st_mtime_ns == written.st_mtime_ns
    archive.path.chmod(0o600)
    archive.path.write_bytes(os.urandom(5_000))
    assert use in format_a_log("third")
    assert {path.name for path in tmp_path.iterdir()} == {
        "jars",
        archive.path.name,
        "first",
        "second",
        "third",
    }

"""Real services for tests: one Postgres and one broker a session, started on first use.

Fixtures (made known to pytest by `tests/conftest.py`):

- `postgres_server`: a `PostgresServer`, one for the session.
- `database_url`: an own, migrated database for this test, as its owner; dropped afterwards.
- `empty_database_url`: the same without a schema.
- `kafka_broker`: a `KafkaBroker`, one for the session: give topics names of your own (`unique_name`).
- `tansu_broker`: the same, always the fallback broker.
- `pipeline_broker`: the session's broker, with the pipeline's topics made anew for this module, and a consumer group
  of the module's own.

A broker takes seconds to start, topics a tenth of one: `renewed` gives any module or test new topics on a broker that runs.

MESS_TEST_BROKER says which broker: auto (Apache Kafka where Java and its jars are there, else Tansu), kafka, tansu.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from mess import migrate
from mess.stack.jars import kafka_jars
from mess.stack.java import KafkaUnavailableError, find_java
from streams.kafka.clients import admin_client
from streams.kafka.topics import ensure_topics, partition_counts, topic_specs
from streams.settings import KafkaSettings, StreamSettings
from tests.support.polling import until

TEMPLATE = "mess_template"


def unique_name(prefix: str) -> str:
    """Return a name for a topic, group or database that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class PostgresServer:
    """A running server; the URLs are of the superuser, the schema's owner and the API's role.

    Attributes:
        execute: Runs one statement as superuser, outside a transaction.
    """

    admin_url: str
    owner_url: str
    api_url: str
    execute: Callable[[str], object]

    def owner_url_of(self, database: str) -> str:
        """Return the owner's URL of another database of this server."""
        return _with_database(self.owner_url, database)

    def api_url_of(self, database_url: str) -> str:
        """Return the read-only role's URL of the database that `database_url` names."""
        return _with_database(self.api_url, urlsplit(database_url).path.lstrip("/"))

    def create_database(self, name: str, template: str) -> None:
        """Make a database, owned by the schema's owner, that holds what `template` holds."""
        # Files are copied without a way round by the log: that saves a quarter.
        self.execute(f"CREATE DATABASE {name} OWNER mess TEMPLATE {template} STRATEGY FILE_COPY")


@dataclass(frozen=True)
class KafkaBroker:
    """A running broker: `kind` is "kafka" or "tansu"; `group` is for workers, as killed ones stay members for a while."""

    bootstrap_servers: str
    kind: str
    group: str = "mess-worker"


def require_kafka() -> None:
    """Go on only where Apache Kafka can run.

    Without Java its tests are skipped on a developer's machine, saying so. In CI that is a failure, and where
    MESS_TEST_BROKER=kafka asks for it; MESS_TEST_BROKER=tansu says that it is meant so.
    """
    try:
        find_java()
        kafka_jars(lambda _: None)
    except KafkaUnavailableError as reason:
        ci = os.environ.get("CI", "").lower() in ("1", "true")
        wanted = os.environ.get("MESS_TEST_BROKER", "auto")
        if wanted == "kafka" or (ci and wanted != "tansu"):
            pytest.fail(f"Apache Kafka cannot run here: {reason}")
        pytest.skip(f"APACHE KAFKA IS NOT TESTED: {reason}")


@contextmanager
def running_services(*arguments: str) -> Iterator[dict[str, str]]:
    """Run `mess.stack.devservices` around a block and yield what it says about itself.

    It stops when its input ends, so also when this process is killed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mess.stack.devservices", "--volatile", "--until-eof", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C on a test run must not stop the servers before the tests' clean-up
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"test services did not start:\n{process.stderr.read()}")
        with _drained(process.stderr):
            try:
                yield orjson.loads(line)
            finally:
                process.stdin.close()
                process.wait(30)


@contextmanager
def _drained(stream: IO[str]) -> Iterator[None]:
    """Keep reading a stream meanwhile, so that its writer never blocks; pass it on to this process's own."""

    def copy() -> None:
        for line in stream:
            sys.__stderr__.write(f"[services] {line}")  # type: ignore[union-attr]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(copy)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One Postgres for the session, in a temporary directory."""
    with running_services("--broker=none") as facts, _superuser(facts["admin_url"]) as execute:
        yield PostgresServer(facts["admin_url"], facts["database_url"], facts["api_database_url"], execute)


@contextmanager
def _superuser(url: str) -> Iterator[Callable[[str], object]]:
    """Yield what runs a statement: on one connection, as two psql a test took more than the database itself."""
    connection: asyncpg.Connection | None = None

    async def execute(statement: str) -> None:
        nonlocal connection
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(url)
        await connection.execute(statement)

    async def close() -> None:
        if connection is not None:
            await connection.close()

    # A thread and loop of their own, which must not meet the ones of the tests: both are begun by the first statement.
    runner = asyncio.Runner()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield lambda statement: pool.submit(runner.run, execute(statement)).result()
        pool.submit(runner.run, close()).result()
        pool.submit(runner.close).result()


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """A database with the schema at head, to make others from; returns its name."""
    postgres_server.create_database(TEMPLATE, "template1")
    # Alembic runs an event loop of its own, which must not meet the one of the tests.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(migrate.upgrade_schema, postgres_server.owner_url_of(TEMPLATE)).result()
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """An own database with the schema at head; the URL is its owner's."""
    with _database(postgres_server, template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An own database without a schema; the URL is its owner's."""
    with _database(postgres_server, "template1") as url:
        yield url


@pytest.fixture
def api_database_url(postgres_server: PostgresServer, database_url: str) -> str:
    """The test's database as the API's role sees it."""
    return postgres_server.api_url_of(database_url)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """One broker for the session; topics stay until its end, so use names of your own."""
    with _broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def tansu_broker() -> Iterator[KafkaBroker]:
    """One fallback broker for the session; topics stay until its end."""
    with _broker("tansu") as broker:
        yield broker


@pytest.fixture(scope="module")
def pipeline_broker(kafka_broker: KafkaBroker) -> KafkaBroker:
    """The session's broker with the pipeline's topics, empty at the start of this module."""
    return renewed(kafka_broker)


def renewed(broker: KafkaBroker, *, topics: bool = True) -> KafkaBroker:
    """Remove the pipeline's topics with all that is in them, and make them anew unless `topics` is False."""
    # A loop of its own, which must not meet the one of the tests.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _renew(broker.bootstrap_servers, topics)).result()
    return replace(broker, group=unique_name("workers"))


async def _renew(servers: str, topics: bool) -> None:
    kafka, streams = KafkaSettings(bootstrap_servers=servers), StreamSettings()
    names = {spec.name for spec in topic_specs(kafka, streams)}
    async with admin_client(kafka) as client:
        if left := names & (await partition_counts(client)).keys():
            await client.delete_topics(sorted(left))
        await until(lambda: _are_gone(client, names))
    if topics:
        assert set(await ensure_topics(kafka, streams, wait=20)) == names


async def _are_gone(client: AIOKafkaAdminClient, names: set[str]) -> bool:
    return not names & (await partition_counts(client)).keys()


@contextmanager
def _broker(kind: str = "") -> Iterator[KafkaBroker]:
    kind = kind or os.environ.get("MESS_TEST_BROKER", "auto")
    with running_services("--no-postgres", f"--broker={kind}") as facts:
        yield KafkaBroker(facts["bootstrap_servers"], facts["broker"])


@contextmanager
def _database(server: PostgresServer, template: str) -> Iterator[str]:
    name = unique_name("test").replace("-", "_")
    server.create_database(name, template)
    try:
        yield server.owner_url_of(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))

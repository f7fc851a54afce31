"""One broker, one database and one worker for a module's tests, which use track ids of their own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from streams.kafka.topics import ensure_topics
from streams.settings import KafkaSettings, StreamSettings
from tests.support.services import KafkaBroker, PostgresServer, running_services, unique_name
from tests.support.worker import WorkerProcess


def worker_of(database_url: str, servers: str, log: Path, **settings: str) -> WorkerProcess:
    """A worker whose partitions are free again as soon after its death as Kafka allows."""
    return WorkerProcess(database_url, servers, log, MESS_SESSION_TIMEOUT_SECONDS="6", **settings)


@dataclass
class Line:
    """A worker between a broker and a database."""

    database_url: str
    servers: str
    broker_kind: str
    worker: WorkerProcess
    directory: Path

    def another_worker(self, name: str, **settings: str) -> WorkerProcess:
        """A further worker on the same broker and database, not started."""
        log = self.directory / f"{name}.log"
        return worker_of(self.database_url, self.servers, log, MESS_WORKER_NAME=name, **settings)


async def owners(line: Line) -> set[str]:
    """The names of the workers that hold partitions."""
    connection = await asyncpg.connect(line.database_url)
    try:
        rows = await connection.fetch("SELECT DISTINCT split_part(owner, '/', 1) FROM ingest_partitions")
        return {row[0] for row in rows}
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    """A broker for this module, with the pipeline's topics."""
    with running_services("--no-postgres") as facts:
        kafka = KafkaSettings(bootstrap_servers=facts["bootstrap_servers"])
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, ensure_topics(kafka, StreamSettings(), wait=20)).result()
        yield KafkaBroker(facts["bootstrap_servers"], facts["broker"])


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """Settings of the worker; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def line(
    postgres_server: PostgresServer,
    template_database: str,
    broker: KafkaBroker,
    worker_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Line]:
    """A worker that runs."""
    name = unique_name("worker").replace("-", "_")
    postgres_server.execute(f"CREATE DATABASE {name} OWNER mess TEMPLATE {template_database}")
    url = postgres_server.owner_url_of(name)
    directory = tmp_path_factory.mktemp("worker")
    line = Line(
        url,
        broker.bootstrap_servers,
        broker.kind,
        worker_of(url, broker.bootstrap_servers, directory / "log", **worker_settings),
        directory,
    )
    line.worker.start()
    try:
        yield line
    finally:
        line.worker.kill()
        print((directory / "log").read_text()[-20000:])  # noqa: T201 -- pytest shows it with a failure
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")

"""New topics, one database and one worker for a module's tests, which use track ids of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.support.services import KafkaBroker, PostgresServer, unique_name
from tests.support.worker import WorkerProcess


def worker_of(database_url: str, broker: KafkaBroker, log: Path, **settings: str) -> WorkerProcess:
    """A worker whose partitions are free again as soon after its death as Kafka allows."""
    return WorkerProcess(
        database_url,
        broker.bootstrap_servers,
        log,
        MESS_CONSUMER_GROUP=broker.group,
        **{"MESS_SESSION_TIMEOUT_SECONDS": "6"} | settings,
    )


@dataclass
class Line:
    """A worker between a broker and a database."""

    database_url: str
    broker: KafkaBroker
    worker: WorkerProcess
    directory: Path

    @property
    def servers(self) -> str:
        """Where clients of the broker connect."""
        return self.broker.bootstrap_servers

    def another_worker(self, name: str, **settings: str) -> WorkerProcess:
        """A further worker on the same broker and database, not started."""
        log = self.directory / f"{name}.log"
        return worker_of(self.database_url, self.broker, log, MESS_WORKER_NAME=name, **settings)


async def owners(line: Line) -> set[str]:
    """The names of the workers that hold partitions."""
    connection = await asyncpg.connect(line.database_url)
    try:
        rows = await connection.fetch("SELECT DISTINCT split_part(owner, '/', 1) FROM ingest_partitions")
        return {row[0] for row in rows}
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """Settings of the worker; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def line(
    postgres_server: PostgresServer,
    template_database: str,
    pipeline_broker: KafkaBroker,
    worker_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Line]:
    """A worker that runs."""
    name = unique_name("worker").replace("-", "_")
    postgres_server.create_database(name, template_database)
    url = postgres_server.owner_url_of(name)
    directory = tmp_path_factory.mktemp("worker")
    line = Line(
        url,
        pipeline_broker,
        worker_of(url, pipeline_broker, directory / "log", **worker_settings),
        directory,
    )
    line.worker.start()
    try:
        yield line
    finally:
        line.worker.kill()
        print((directory / "log").read_text()[-20000:])  # noqa: T201 -- pytest shows it with a failure
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")

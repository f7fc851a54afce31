"""Partitions are added to track-ingest: its keys move, and what was deleted stays deleted wherever the log is read again."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from aiokafka.admin import NewPartitions

from mess import migrate
from streams.kafka.clients import admin_client
from streams.settings import KafkaSettings
from tests.faults.history import History, LoggedCatalogue
from tests.faults.oracle import at_rest, faults_at_rest
from tests.integration.worker.conftest import Line, worker_of
from tests.support.polling import until
from tests.support.worker import publish, read_topic

pytestmark = pytest.mark.integration

PARTITIONS = 11


async def test_added_partitions_bring_nothing_back(
    line: Line, empty_database_url: str, tmp_path: Path
) -> None:
    """While they are added, and after a rebuild into an empty database, the catalogue is that of the latest events."""
    if line.broker.kind != "kafka":
        pytest.skip("Tansu adds no partitions")
    history = History(np.random.default_rng(21))
    await publish(line.servers, history.events(200))
    await at_rest(line.database_url, line.servers, 60)
    async with admin_client(KafkaSettings(bootstrap_servers=line.servers)) as admin:
        await admin.create_partitions({"track-ingest": NewPartitions(PARTITIONS)})

    async def claimed() -> bool:
        metrics = line.worker.metrics()
        return metrics["mess_owned_partitions"] == PARTITIONS

    await until(claimed)
    await publish(line.servers, history.events(200))
    known = sorted(key for key, value in history.sent if value is not None)
    await publish(line.servers, [history._delete(key.decode()) for key in known[::9]])
    await at_rest(line.database_url, line.servers, 60)
    log = await read_topic(line.servers, "track-ingest")
    wanted = LoggedCatalogue(history.meanings).read(log)
    elsewhere: dict[bytes, set[int]] = {}
    for record in log:
        elsewhere.setdefault(record.key, set()).add(record.partition)
    gone = [key for key, places in elsewhere.items() if len(places) > 1 and key.decode() not in wanted.tracks]
    assert len(gone) > 5
    assert await faults_at_rest(line.database_url, line.servers, wanted) == []
    line.worker.kill()

    # Migrated now, as a database made anew is: versions of lists go on.
    await asyncio.to_thread(migrate.upgrade_schema, empty_database_url)
    rebuilt = worker_of(empty_database_url, line.broker, tmp_path / "log", MESS_WORKER_NAME="rebuilt")
    rebuilt.start()
    try:
        await at_rest(empty_database_url, line.servers, 60)
        assert await faults_at_rest(empty_database_url, line.servers, wanted) == []
    finally:
        rebuilt.kill()
        print(rebuilt.log.read_text()[-8000:])  # noqa: T201 -- pytest shows it with a failure

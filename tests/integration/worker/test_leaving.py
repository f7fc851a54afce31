"""A worker that is asked to stop leaves the consumer group, so that nobody waits for its session to end."""

import asyncio
import signal

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.faults.history import History
from tests.integration.worker.conftest import Line, owners
from tests.integration.worker.test_rolling_restart import Readers, under_load
from tests.support.polling import until
from tests.support.worker import settle, wrong_lists

pytestmark = pytest.mark.integration


async def members(line: Line) -> set[str]:
    """The client ids of the group's members."""
    admin = AIOKafkaAdminClient(bootstrap_servers=line.servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([line.broker.group])
    finally:
        await admin.close()
    *_, found, _ = answer.groups[0] if len(answer.groups[0]) > 6 else (*answer.groups[0], None)
    return {member[1] for member in found}


async def test_a_worker_that_is_stopped_under_load_has_left_the_group_when_it_ends(line: Line) -> None:
    """Its partitions are the other's without a session timeout in between, and the lists are those of brute force."""
    if line.broker.kind != "kafka":
        pytest.skip("Tansu takes no notice of a member that leaves")
    history = History(np.random.default_rng(3))
    second = line.another_worker("second")
    second.start()
    try:
        await until(lambda: _owned_by(line, {"worker", "second"}))
        async with under_load(line, history, Readers(None, history), ()):  # type: ignore[arg-type]
            assert await members(line) == {"mess-worker", "mess-second"}
            assert second.process is not None
            second.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.process.wait, 20) == 0
            assert await members(line) == {"mess-worker"}
            await until(lambda: _owned_by(line, {"worker"}))
        await settle(line.database_url, line.servers)
        assert await wrong_lists(line.database_url) == []
    finally:
        second.kill()
        print(second.log.read_text()[-8000:])  # noqa: T201 -- pytest shows it with a failure


async def _owned_by(line: Line, names: set[str]) -> bool:
    return await owners(line) == names

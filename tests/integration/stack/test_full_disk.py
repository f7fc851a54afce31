"""The local stack on a disk that fills up: reads go on, one line says why writes do not, and these resume by themselves."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from mess.stack import datadir
from mess.stack.broker import BrokerChoice
from mess.stack.diskroom import ENOUGH_BYTES
from mess.stack.stack import LocalStack, StackOptions
from tests.support.polling import until
from tests.support.services import require_kafka
from tests.support.worker import publish, settle, track_message

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


async def test_reads_go_on_while_the_disk_is_full_and_writes_resume_with_room(tmp_path: Path) -> None:
    """Broker and worker are stopped before the last bytes go; Postgres and the API run on, and everything comes back."""
    require_kafka()
    free, lines = [ENOUGH_BYTES + 1], list[str]()
    data_dir, rng = tmp_path / "data", np.random.default_rng(7)
    options = StackOptions(data_dir=data_dir, port=0, broker=BrokerChoice.KAFKA)
    with datadir.locked_data_directory(data_dir):
        stack = LocalStack(options, lines.append, free_bytes=lambda: free[0])
        try:
            state = await stack.start()
            tracks = [track_message(f"disk/{i}", rng.standard_normal(8)) for i in range(6)]
            await publish(state.bootstrap_servers, tracks[:5])
            await settle(state.database_url, state.bootstrap_servers)
            async with httpx.AsyncClient(base_url=state.http_url, timeout=10) as client:
                before = (await client.get("/recommend/disk%2F0")).json()
                free[0] = 0
                await until(lambda: (stack.state.pids.broker, stack.state.pids.workers) == (None, []))
                reads = [await client.get("/recommend/disk%2F0") for _ in range(20)]
                assert [read.status_code for read in reads] == [200] * 20
                assert reads[-1].json()["recommendations"] == before["recommendations"]
                assert sum("the disk is nearly full: broker, worker-1 stopped" in line for line in lines) == 1
                free[0] = ENOUGH_BYTES + 1
                await until(lambda: None not in (stack.state.pids.broker, *stack.state.pids.workers))
                await until(lambda: "broker is back" in lines)
                await publish(state.bootstrap_servers, tracks[5:])
                await settle(state.database_url, state.bootstrap_servers)
                assert (await client.get("/recommend/disk%2F5")).status_code == 200
        finally:
            await stack.stop()
    assert not [line for line in lines if "Traceback" in line]

"""The OpenAPI document says what is answered: schemathesis calls every operation, before a real worker, broker and store."""

import asyncio
import os
import re
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.integration.serving.process import Process, running_api
from tests.integration.worker.conftest import Line
from tests.support.services import PostgresServer
from tests.support.worker import publish, settle, track_message

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent / "openapi"
SECONDS = 90
# Those of the document's own examples first.
NAMES = ["bach/bwv66.6", "bach/bwv83.5", *(f"track/{number}" for number in range(58))]
VECTORS = np.random.default_rng(3).standard_normal((len(NAMES), 8)).astype(np.float32)
TAGS = ["vocal", "piano"]


async def _drain(running: Process) -> None:
    """Read what it logs, or it would stand still once the pipe is full."""
    assert running.process.stdout is not None
    while await running.process.stdout.readline():
        pass


async def _schemathesis(url: str, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "schemathesis",
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{url}/openapi.json",
        "--checks=all",
        "--max-examples=10",
        f"--max-time={SECONDS}",
        "--generation-database=none",
        "--no-color",
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.integration.worker.openapi.rules",
            "PYTHONPATH": str(HERE.parents[3]),
        },
        cwd=folder,  # what it keeps of a run must not be in the next
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode()


@pytest.mark.timeout(420)
async def test_every_operation_answers_as_documented(
    line: Line, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """All checks, on all operations, by examples, corner cases, chance and sequences, by a fixed seed: no finding."""
    events = [
        track_message(name, vector, title=f"No. {at}", composer="Bach", era="Baroque", tags=TAGS)
        for at, (name, vector) in enumerate(zip(NAMES, VECTORS, strict=True))
    ]
    await publish(line.servers, events)
    await settle(line.database_url, line.servers)
    settings = {
        # A stream that never ended could not be read whole.
        "MESS_API_STREAM_LIFETIME": "0.1",
        "MESS_API_ACCESS_LOG": "false",
    }
    url = postgres_server.api_url_of(line.database_url)
    async with running_api(url, servers=line.servers, **settings) as running:
        address = await running.url()
        draining = asyncio.create_task(_drain(running))
        async with httpx.AsyncClient(base_url=address) as client:
            paths = (await client.get("/openapi.json")).json()["paths"]
        status, told = await _schemathesis(address, tmp_path)
        draining.cancel()
    assert status == 0, told
    operations = sum(len(methods) for methods in paths.values())
    assert re.search(rf"Tested: +{operations}\b", told), told

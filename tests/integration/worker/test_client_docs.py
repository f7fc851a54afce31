"""The examples of docs/client.md and of the client's own page, before a real worker, broker and store."""

import asyncio
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.integration.serving.process import Process, running_api
from tests.integration.worker.conftest import Line
from tests.support.services import PostgresServer
from tests.support.worker import publish, settle, track_message

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "docs" / "client.md", ROOT / "client" / "README.md")
NAMES = ["bach/bwv66.6", "bach/bwv83.5", *(f"track/{number}" for number in range(58))]
VECTORS = np.random.default_rng(3).standard_normal((len(NAMES), 8)).astype(np.float32)


async def _drain(running: Process) -> None:
    assert running.process.stdout is not None
    while await running.process.stdout.readline():
        pass


async def _run(program: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert process.returncode == 0, f"{program}\n{told.decode()}"
    return told.decode()


@pytest.mark.timeout(300)
async def test_the_examples_of_the_docs_run(
    line: Line, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Each as a program of its own, in the order of the page; each says something."""
    events = [
        track_message(
            name, vector, title=f"No. {at}", composer="Bach", era="Baroque", year_composed=1700 + at
        )
        for at, (name, vector) in enumerate(zip(NAMES, VECTORS, strict=True))
    ]
    await publish(line.servers, [*events, (NAMES[-1].encode(), None)])
    await settle(line.database_url, line.servers)
    (tmp_path / "seen.txt").write_text(",".join(f"{partition}:-1" for partition in range(8)))
    settings = {"MESS_API_ACCESS_LOG": "false"}
    url = postgres_server.api_url_of(line.database_url)
    async with running_api(url, servers=line.servers, **settings) as running:
        address = await running.url()
        draining = asyncio.create_task(_drain(running))
        programs = [
            found.replace("http://127.0.0.1:8000", address)
            for page in PAGES
            for found in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        ]
        told = [await _run(program, tmp_path) for program in programs]
        draining.cancel()
    assert len(told) == 8
    assert all(told)
    assert "withdrawn" in told[5]
    assert "track-not-found" in told[6]

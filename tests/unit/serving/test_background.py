"""Tasks in the background of a block."""

import asyncio

import pytest
import structlog

from serving.background import running_tasks

pytestmark = pytest.mark.unit


async def test_a_background_task_is_of_no_request() -> None:
    """A request that begins one does not put its id into every later log line of it."""
    found = asyncio.get_running_loop().create_future()

    async def work() -> None:
        found.set_result(structlog.contextvars.get_contextvars())

    with structlog.contextvars.bound_contextvars(request_id="one"):
        async with running_tasks({"work": work()}):
            assert await found == {}

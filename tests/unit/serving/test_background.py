"""Tasks in the background of the API."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
import structlog

from serving.background import running_tasks

pytestmark = pytest.mark.unit


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals that the process would have got."""
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    return raised


async def test_tasks_run_beside_the_block_and_are_over_after_it(stops: list[int]) -> None:
    """Each by its name; those that wait for ever are cancelled, those that are done are left alone."""
    seen, over = asyncio.Event(), []

    async def forever() -> None:
        seen.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # closing takes a moment
            over.append("forever")

    async def once() -> None:
        over.append("once")

    async with running_tasks({"watch": forever(), "look": once()}):
        assert {"watch", "look"} <= {task.get_name() for task in asyncio.all_tasks()}
        await seen.wait()
    assert sorted(over) == ["forever", "once"]
    assert stops == []


async def test_a_task_that_fails_stops_the_process(stops: list[int]) -> None:
    """With the signal that ends it cleanly: the block goes on until then, and the other tasks, too."""
    other = asyncio.Event()

    async def fail() -> None:
        raise ValueError("broken")

    async with running_tasks({"watch": fail(), "other": asyncio.wait_for(other.wait(), 5)}):  # type: ignore[dict-item]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stops == [signal.SIGTERM]
        other.set()


async def test_what_the_block_raises_goes_on_after_the_tasks_have_ended() -> None:
    """A failure to start leaves nothing running."""
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def block() -> None:
        async with running_tasks({"watch": forever()}):
            await asyncio.sleep(0)
            raise KeyError("start")

    with pytest.raises(KeyError):
        await block()
    assert ended.is_set()


async def test_a_background_task_is_of_no_request() -> None:
    """A request that begins one does not put its id into every later log line of it."""
    found = asyncio.get_running_loop().create_future()

    async def work() -> None:
        found.set_result(structlog.contextvars.get_contextvars())

    with structlog.contextvars.bound_contextvars(request_id="one"):
        async with running_tasks({"work": work()}):
            assert await found == {}

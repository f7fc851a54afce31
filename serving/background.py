"""Runs tasks in the background of a block."""

import asyncio
import contextvars
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

logger = structlog.get_logger("serving")


@asynccontextmanager
async def running_tasks(work: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run tasks around a block. If one of them fails, the process ends: a partly working API would mislead."""
    # A request may have begun them; their log lines and traces are not its own.
    tasks = [
        asyncio.create_task(coroutine, name=name, context=contextvars.Context())
        for name, coroutine in work.items()
    ]
    for task in tasks:
        task.add_done_callback(_failed)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    logger.critical("a task has failed: the process stops", task=task.get_name(), exc_info=error)
    signal.raise_signal(signal.SIGTERM)

"""Waiting for other processes, which set no event."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], interval: float = 0.05) -> None:
    """Wait until a condition holds; the test's own timeout bounds it."""
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        await asyncio.sleep(interval)

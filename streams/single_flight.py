"""Single-flight: callers who want the same at the same time share one computation."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Computations in progress by key. Nothing is kept: after the end of one, the next caller starts another."""

    def __init__(self) -> None:
        self._flights: dict[Key, asyncio.Future[Value]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    async def run(self, key: Key, compute: Callable[[], Awaitable[Value]]) -> Value:
        """The result of the computation in progress for `key`, or of `compute`, which then runs as part of the caller.

        It costs no task. If the caller that computes is cancelled, one of those who wait computes again.

        Raises:
            Exception: What the computation raised; all callers get it.
        """
        while (flight := self._flights.get(key)) is not None:
            await asyncio.wait((flight,))
            if not flight.cancelled():
                return flight.result()
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            value = await compute()
            flight.set_result(value)
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # marked as retrieved: there may be no other caller
            raise
        finally:
            del self._flights[key]
            flight.cancel()  # no effect on a result
        return value

    async def run_detached(
        self, key: Key, compute: Callable[[], Coroutine[Any, Any, Value]], *, name: str
    ) -> Value:
        """As `run`, in a task of its own: the computation goes on if its callers are cancelled.

        Args:
            key: What is wanted.
            compute: Computes it.
            name: Of the task.

        Raises:
            Exception: What the computation raised; all callers get it.
            CancelledError: The flights were closed.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(compute(), name=name)
            flight.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(flight)

    def _end(self, key: Key, flight: asyncio.Future[Value]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marked as retrieved: its callers may be gone

    async def close(self) -> None:
        """Cancel detached computations, and wait for their end."""
        tasks = [flight for flight in self._flights.values() if isinstance(flight, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Batches small reads of the store."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from store.errors import StoreUnavailableError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class RequestBatcher(Generic[Key, Value]):
    """Reads many keys with one query: keys that are requested during a query wait for the next one.

    Args:
        ask: The query: takes keys, returns the values of those that exist.
        timeout: Seconds that a query may take, and that a caller waits.
    """

    def __init__(self, ask: Callable[[list[Key]], Awaitable[dict[Key, Value]]], timeout: float) -> None:
        self._ask = ask
        self._timeout = timeout
        self._next: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._given_up: set[asyncio.Task[None]] = set()

    async def get(self, key: Key) -> Value | None:
        """The value for a key; None if there is none.

        Raises:
            StoreUnavailableError: Postgres cannot be reached, or does not answer in time.
        """
        loop = asyncio.get_running_loop()
        # One future for each caller: one that is cancelled does not affect the others.
        future: asyncio.Future[Value | None] = loop.create_future()
        self._next.setdefault(key, []).append(future)
        if self._asking is None:
            self._asking = loop.create_task(self._run(), name="batched reads")
        # This query and the one before may exceed the timeout together. `asyncio.timeout` would cost as much as all else here.
        timer = loop.call_later(self._timeout, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def _run(self) -> None:
        """Run queries while keys wait, or until this task is given up."""
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        try:
            while self._next and self._asking is me:
                asked, self._next = self._next, {}
                timer = loop.call_later(self._timeout, self._give_up, asked)
                try:
                    await self._answer(asked)
                finally:
                    timer.cancel()
        finally:
            if self._asking is me:
                self._asking = None

    async def _answer(self, asked: dict[Key, list[asyncio.Future[Value | None]]]) -> None:
        try:
            found = await self._ask(list(asked))
        except Exception as error:  # noqa: BLE001 -- those who asked are told, and what is asked next is asked all the same
            _tell(asked, error)
        except BaseException:
            for futures in asked.values():
                for future in futures:
                    future.cancel()
            raise
        else:
            for key, futures in asked.items():
                value = found.get(key)
                for future in futures:
                    if not future.done():  # given up
                        future.set_result(value)

    def _give_up(self, asked: dict[Key, list[asyncio.Future[Value | None]]]) -> None:
        """Give up a query that takes too long. Closing its connection may take long, too, and other callers must not wait."""
        _tell(asked, StoreUnavailableError("no answer in time"))
        assert self._asking is not None
        self._given_up.add(self._asking)
        self._asking.add_done_callback(self._given_up.discard)
        self._asking.cancel()
        self._asking = None
        if self._next:
            self._asking = asyncio.create_task(self._run(), name="batched reads")


def _tell(asked: dict[Key, list[asyncio.Future[Value | None]]], error: Exception) -> None:
    for futures in asked.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StoreUnavailableError("no answer in time"))

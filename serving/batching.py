"""Small questions to the store, many at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from store.errors import StoreError, StoreUnavailableError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Batched(Generic[Key, Value]):
    """Asks for many keys at a time: what is asked for while one query is under way waits for the next.

    Args:
        ask: The query: given keys, answers with those that are there.
        timeout: Seconds one query may take.
    """

    def __init__(self, ask: Callable[[list[Key]], Awaitable[dict[Key, Value]]], timeout: float) -> None:
        self._ask = ask
        self._timeout = timeout
        self._next: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value for a key, None where there is none.

        Raises:
            StoreUnavailableError: Postgres cannot be reached.
        """
        # One future for each who waits: whoever gives up leaves the others alone.
        future: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._next.setdefault(key, []).append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._run(), name="batched reads")
        return await future

    async def _run(self) -> None:
        try:
            while self._next:
                asked, self._next = self._next, {}
                await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: dict[Key, list[asyncio.Future[Value | None]]]) -> None:
        told: StoreError | None = None
        found: dict[Key, Value] = {}
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(list(asked))
        except StoreError as error:
            told = error
        except TimeoutError:
            told = StoreUnavailableError("no answer in time")
        except BaseException:
            for futures in asked.values():
                for future in futures:
                    future.cancel()
            raise
        for key, futures in asked.items():
            value = found.get(key)
            for future in futures:
                if future.done():  # given up
                    continue
                if told is None:
                    future.set_result(value)
                else:
                    future.set_exception(told)

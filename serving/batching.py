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
        self._next: dict[Key, asyncio.Future[Value | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value for a key, None where there is none.

        Raises:
            StoreUnavailableError: Postgres cannot be reached.
        """
        future = self._next.get(key)
        if future is None:
            future = self._next[key] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._run(), name="batched reads")
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._next:
                asked, self._next = self._next, {}
                await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: dict[Key, asyncio.Future[Value | None]]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(list(asked))
        except (StoreError, TimeoutError) as error:
            told = error if isinstance(error, StoreError) else StoreUnavailableError("no answer in time")
            for future in asked.values():
                future.set_exception(told)
                future.exception()  # whoever asked may have gone: nobody need hear of it
        except BaseException:
            for future in asked.values():
                future.cancel()
            raise
        else:
            for key, future in asked.items():
                future.set_result(found.get(key))

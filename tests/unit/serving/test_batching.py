"""Questions to the store that are asked many at a time."""

import asyncio

import pytest

from serving.recommend.batching import RequestBatcher
from store.errors import StoreUnavailableError

pytestmark = pytest.mark.unit


class _SquareStore:
    """Answers with the square of odd numbers; waits to be let go."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self, keys: list[int]) -> dict[int, int]:
        self.asked.append(keys)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return {key: key * key for key in keys if key % 2}


async def test_what_comes_meanwhile_is_asked_together() -> None:
    """While one question is under way the next gathers; one key is asked for once; each gets its own answer."""
    store = _SquareStore()
    batched = RequestBatcher[int, int](store.ask, 5)
    first = asyncio.create_task(batched.get(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(batched.get(key)) for key in (2, 3, 3, 5)]
    await asyncio.sleep(0)
    store.go.set()
    assert await asyncio.gather(first, *rest) == [1, None, 9, 9, 25]
    assert store.asked == [[1], [2, 3, 5]]


async def test_who_gives_up_leaves_the_others_alone() -> None:
    """Of two who wait for the same key one may go; the other is answered."""
    store = _SquareStore()
    batched = RequestBatcher[int, int](store.ask, 5)
    gone, stays = (asyncio.create_task(batched.get(3)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    store.go.set()
    assert await stays == 9
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_store_that_is_away_or_silent_is_told_to_all() -> None:
    """Everyone who waits hears of it, and the next question is asked afresh."""
    store = _SquareStore()
    batched = RequestBatcher[int, int](store.ask, 0.05)
    silent = await asyncio.gather(batched.get(1), batched.get(3), return_exceptions=True)
    store.go.set()
    store.error = StoreUnavailableError("away")
    away = await asyncio.gather(batched.get(1), return_exceptions=True)
    assert {type(each) for each in (*silent, *away)} == {StoreUnavailableError}
    store.error = None
    assert await batched.get(3) == 9


async def test_a_query_that_is_slow_to_be_given_up_holds_nobody() -> None:
    """While a query that took too long cleans up, the next one is asked and answered."""
    cleaned, asked = asyncio.Event(), 0

    async def ask(keys: list[int]) -> dict[int, int]:
        nonlocal asked
        asked += 1
        if asked == 1:
            try:
                await asyncio.Event().wait()
            finally:
                await cleaned.wait()
        return dict.fromkeys(keys, asked)

    batched = RequestBatcher[int, int](ask, 0.05)
    with pytest.raises(StoreUnavailableError):
        await batched.get(1)
    assert await batched.get(1) == 2
    cleaned.set()


async def test_nobody_waits_longer_than_the_timeout() -> None:
    """Who asks while a query is under way waits for it and the next no longer than for one alone."""
    store = _SquareStore()
    batched = RequestBatcher[int, int](store.ask, 0.2)
    first = asyncio.create_task(batched.get(1))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(batched.get(3))
    done, _ = await asyncio.wait((first, second))
    assert [type(each.exception()) for each in done] == [StoreUnavailableError] * 2
    # The second's own query was under way when its time was over.
    assert store.asked == [[1], [3]]


async def test_a_mistake_is_told_to_who_asked() -> None:
    """An error that nobody has foreseen reaches those who waited for that query, and no other."""
    store = _SquareStore()
    store.go.set()
    store.error = ZeroDivisionError()
    batched = RequestBatcher[int, int](store.ask, 5)
    for each in await asyncio.gather(batched.get(1), batched.get(3), return_exceptions=True):
        assert isinstance(each, ZeroDivisionError)
    store.error = None
    assert await batched.get(3) == 9

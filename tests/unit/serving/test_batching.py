"""Questions to the store that are asked many at a time."""

import asyncio

import pytest

from serving.batching import Batched
from store.errors import StoreUnavailableError

pytestmark = pytest.mark.unit


class _Store:
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
    store = _Store()
    batched = Batched[int, int](store.ask, 5)
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
    store = _Store()
    batched = Batched[int, int](store.ask, 5)
    gone, stays = (asyncio.create_task(batched.get(3)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    store.go.set()
    assert await stays == 9
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_store_that_is_away_or_silent_is_told_to_all() -> None:
    """Everyone who waits hears of it, and the next question is asked afresh."""
    store = _Store()
    batched = Batched[int, int](store.ask, 0.05)
    silent = await asyncio.gather(batched.get(1), batched.get(3), return_exceptions=True)
    store.go.set()
    store.error = StoreUnavailableError("away")
    away = await asyncio.gather(batched.get(1), return_exceptions=True)
    assert {type(each) for each in (*silent, *away)} == {StoreUnavailableError}
    store.error = None
    assert await batched.get(3) == 9

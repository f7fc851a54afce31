"""The watch: knows whether a generation serves, wakes those who wait for a switch, and survives an absent store."""

import asyncio
import time
from typing import Any, cast

import asyncpg
import pytest

from store.errors import StoreUnavailableError
from streams.generations import GenerationName
from streams.maintenance import serving
from streams.maintenance.serving import ServingWatch
from tests.support.polling import until

pytestmark = pytest.mark.unit


class Generations:
    """The table of generations, as a pool reads it."""

    def __init__(self) -> None:
        self.serving = 1
        self.others: dict[str, int] = {}
        self.away = False
        self.reads = 0

    async def fetch(self, *_: Any) -> list[dict[str, Any]]:
        """The generations that serve."""
        self.reads += 1
        if self.away:
            raise ConnectionRefusedError("no route to Postgres")
        return [
            {"space": space, "number": number}
            for space, number in ({"default": self.serving} | self.others).items()
        ]

    async def until_read(self, times: int) -> None:
        """Wait until it has been read so often."""

        async def read() -> bool:
            return self.reads >= times

        await until(read, 0.001)


def watch_of(generations: Generations, number: int) -> ServingWatch:
    """A watch of one generation."""
    return ServingWatch(cast("asyncpg.Pool", generations), GenerationName(number=number))


async def test_only_one_generation_serves() -> None:
    """Before its first look none does; after a switch the other one does."""
    generations = Generations()
    first, second = watch_of(generations, 1), watch_of(generations, 2)
    assert (first.serves, second.serves) == (False, False)
    for number in (1, 2, 1):
        generations.serving = number
        await first.look()
        await second.look()
        assert (first.serves, second.serves) == (number == 1, number == 2)


async def test_one_generation_of_each_space_serves() -> None:
    """A switch in one space changes nothing in another, and each watch knows which spaces can be asked for."""
    generations = Generations()
    first, mood = (
        watch_of(generations, 1),
        ServingWatch(cast("asyncpg.Pool", generations), GenerationName("mood", 1)),
    )
    assert mood.spaces == frozenset()
    for others, number, serves in (({}, 1, False), ({"mood": 1}, 2, True), ({"mood": 2}, 1, False)):
        generations.others, generations.serving = others, number
        await first.look()
        await mood.look()
        assert (first.serves, mood.serves) == (number == 1, serves)
        assert first.spaces == mood.spaces == {"default", *others}


async def test_a_switch_wakes_who_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that find what was found before wake nobody, and a wait for what is already so ends at once."""
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.001)
    generations = Generations()
    watch = watch_of(generations, 2)
    await asyncio.wait_for(watch.turned(True), 10)
    running = asyncio.create_task(watch.run())
    waiting = asyncio.create_task(watch.turned(False))
    await generations.until_read(5)
    assert not waiting.done()
    generations.serving = 2
    await asyncio.wait_for(waiting, 10)
    assert watch.serves
    generations.serving = 1
    await asyncio.wait_for(watch.turned(True), 10)
    assert not watch.serves
    running.cancel()


async def test_an_absent_store_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word stays, its time too, and the watch goes on when the store is back."""
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.001)
    generations = Generations()
    watch = watch_of(generations, 1)
    assert watch.looked_at < time.monotonic() - 1e9
    await watch.look()
    looked_at = watch.looked_at
    assert looked_at <= time.monotonic()
    generations.away = True
    with pytest.raises(StoreUnavailableError):
        await watch.look()
    running = asyncio.create_task(watch.run())
    await generations.until_read(5)
    assert (watch.serves, watch.looked_at) == (True, looked_at)
    generations.away = False
    await asyncio.wait_for(watch.next_look(), 10)
    assert watch.serves
    assert watch.looked_at > looked_at
    running.cancel()

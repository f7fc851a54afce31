"""Single-flight: one computation for all who want the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from streams.single_flight import SingleFlight

pytestmark = pytest.mark.unit

Run = Callable[..., Awaitable[int]]


class Counting:
    """A computation that waits for a signal, and counts its starts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error is not None:
            raise self._error
        return number


def callers(
    flights: SingleFlight[str, int], compute: Counting, count: int, *, detached: bool, key: str = "k"
) -> list[asyncio.Task[int]]:
    """Callers for one key, each a task."""
    if detached:
        return [
            asyncio.create_task(flights.run_detached(key, compute, name="computation")) for _ in range(count)
        ]
    return [asyncio.create_task(flights.run(key, compute)) for _ in range(count)]


@pytest.mark.parametrize("detached", [False, True])
async def test_callers_at_the_same_time_share_a_computation(detached: bool) -> None:
    """Three callers, one start; the next caller after its end starts another."""
    flights, compute = SingleFlight[str, int](), Counting()
    asked = callers(flights, compute, 3, detached=detached)
    await asyncio.sleep(0)
    assert "k" in flights
    compute.go.set()
    assert await asyncio.gather(*asked) == [1, 1, 1]
    await asyncio.sleep(0)
    assert "k" not in flights
    assert await callers(flights, compute, 1, detached=detached)[0] == 2


@pytest.mark.parametrize("detached", [False, True])
async def test_keys_are_computed_apart(detached: bool) -> None:
    """Callers of different keys have nothing in common."""
    flights, compute = SingleFlight[str, int](), Counting()
    compute.go.set()
    asked = [callers(flights, compute, 1, detached=detached, key=key)[0] for key in "ab"]
    assert sorted(await asyncio.gather(*asked)) == [1, 2]


@pytest.mark.parametrize("detached", [False, True])
async def test_an_error_is_everybodys(detached: bool) -> None:
    """All callers get the error, and the next one computes anew."""
    flights, compute = SingleFlight[str, int](), Counting(ValueError("no"))
    asked = callers(flights, compute, 3, detached=detached)
    await asyncio.sleep(0)
    compute.go.set()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(each) for each in told] == ["no", "no", "no"]
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="no"):
        await callers(flights, compute, 1, detached=detached)[0]
    assert compute.started == 2


async def test_a_caller_that_computes_and_is_cancelled_hands_over() -> None:
    """Those who wait for it compute again, once."""
    flights, compute = SingleFlight[str, int](), Counting()
    first, *others = callers(flights, compute, 3, detached=False)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    await asyncio.sleep(0)
    compute.go.set()
    assert await asyncio.gather(*others) == [2, 2]
    assert (first.cancelled(), compute.cancelled) == (True, 1)


async def test_a_detached_computation_outlives_its_callers() -> None:
    """It goes on when all of them are gone, and a later caller gets its result."""
    flights, compute = SingleFlight[str, int](), Counting()
    (gone,) = callers(flights, compute, 1, detached=True)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    (late,) = callers(flights, compute, 1, detached=True)
    await asyncio.sleep(0)
    compute.go.set()
    assert await late == 1


async def test_an_error_that_nobody_waits_for_is_silent() -> None:
    """The task's error counts as retrieved, so that the loop does not report it."""
    flights, compute = SingleFlight[str, int](), Counting(ValueError("no"))
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    (gone,) = callers(flights, compute, 1, detached=True)
    await asyncio.sleep(0)
    gone.cancel()
    compute.go.set()
    await asyncio.wait([gone])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "k" not in flights
    assert reported == []


async def test_closing_cancels_what_is_detached() -> None:
    """The computation is cancelled, and so are its callers."""
    flights, compute = SingleFlight[str, int](), Counting()
    asked = callers(flights, compute, 2, detached=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await flights.close()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in told)
    assert compute.cancelled == 1

"""Keeps requests until the generation of this worker serves, or until another one must have answered them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from streams.contracts import parse_request
from streams.kafka.received import ReceivedMessage

Taken = TypeVar("Taken")

# A request without a timeout, or with a longer one, is kept for so long: Faust complains of a partition whose offsets stand
# still for five minutes.
HELD_SECONDS: Final = 60.0
# Requests that are kept at most, about 2 kB each. With more, the oldest are left to the generation that serves, which has had
# the most time to answer them: a request that stayed in Kafka instead would keep the events behind it from being consumed.
MOST_HELD: Final = 20_000


class ServingLooks(Protocol):
    """The used part of `streams.maintenance.serving.ServingWatch`."""

    serves: bool
    spaces: frozenset[str]
    looked_at: float

    async def next_look(self) -> None:
        """See `ServingWatch.next_look`."""


@dataclass(frozen=True, slots=True)
class _HeldRequest(Generic[Taken]):
    """A request, and by this process's monotonic clock, when its caller waits no longer."""

    received: ReceivedMessage
    taken: Taken
    expires: float


class HeldRequests(Generic[Taken]):
    """Keeps requests that came while the generation did not serve. Each look at the store decides on all of them.

    If the generation serves, they are answered, in the order in which they came. Otherwise those that had expired when the look
    began are left to the generation that serves: it served until then, and has had its time.

    Args:
        serving: Whether the generation serves.
        answer: Begins to answer a request; waits for a slot.
        leave: Lets a request be acknowledged without a reply.
    """

    def __init__(
        self,
        serving: Callable[[], ServingLooks],
        answer: Callable[[ReceivedMessage, Taken], Awaitable[None]],
        leave: Callable[[ReceivedMessage, Taken], Awaitable[None]],
    ) -> None:
        self._serving = serving
        self._answer = answer
        self._leave = leave
        # By partition and offset.
        self._held: dict[tuple[int, int], _HeldRequest[Taken]] = {}

    async def put(self, received: ReceivedMessage, taken: Taken, since: float) -> None:
        """Keep a request that the broker received at `since`, by this process's monotonic clock."""
        place = received.partition, received.offset
        # After a rebalance a message is read again, and only its new reading can be acknowledged.
        given_up = [self._held.pop(place)] if place in self._held else []
        self._held[place] = _HeldRequest(received, taken, since + _patience(received))
        if len(self._held) > MOST_HELD:
            given_up.append(self._held.pop(next(iter(self._held))))
        for held in given_up:
            await self._leave(held.received, held.taken)

    async def run(self) -> None:
        """Decide on kept requests after each look, for ever.

        Raises:
            Exception: A reply could not be delivered for a reason that will not pass: the process must end.
        """
        while True:
            await self._serving().next_look()
            await self._decide()

    async def _decide(self) -> None:
        serving = self._serving()
        while self._held and serving.serves:
            held = self._held.pop(next(iter(self._held)))
            await self._answer(held.received, held.taken)
        over = [place for place, held in self._held.items() if held.expires < serving.looked_at]
        for held in [self._held.pop(place) for place in over]:
            await self._leave(held.received, held.taken)


def _patience(received: ReceivedMessage) -> float:
    """For how many seconds the caller waits."""
    try:
        timeout = parse_request(received.key, received.value).timeout_ms
    except Exception:  # noqa: BLE001 -- whoever serves tells what is wrong with it
        timeout = None
    return HELD_SECONDS if timeout is None else min(timeout / 1000, HELD_SECONDS)

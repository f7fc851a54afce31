"""Poison messages: isolates the messages whose processing fails, and refuses them.

A message is at fault if its processing fails each time. Other errors are not the message's: Postgres or Kafka is away, a
partition has another owner, a process is gone, memory or threads ran out, a table or a right is missing. Such errors are
retried, or end the process.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from store.errors import StoreError, TrackRejectedError
from store.pool import REJECTED
from streams.contracts import InvalidEvent, Reason
from streams.errors import StreamsError

Item = TypeVar("Item")

_ENVIRONMENT: Final = (
    OSError,  # a time-out is one
    MemoryError,
    ImportError,
    KafkaError,
    StoreError,
    StreamsError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def refusal_of(error: Exception) -> InvalidEvent:
    """The refusal of the one event that was being processed when `error` was raised.

    Raises:
        Exception: `error`, where it is not the event's.
    """
    if isinstance(error, InvalidEvent):
        return error
    if isinstance(error, TrackRejectedError):
        return InvalidEvent(Reason.INVALID_METADATA, str(error))
    # asyncpg's own DataError, of a value that it cannot encode, is an InterfaceError beside.
    of_value = isinstance(error, (ValueError, *REJECTED))
    # A bare RuntimeError is how Python says that there is no thread, or no executor, any more.
    if not of_value and (isinstance(error, _ENVIRONMENT) or type(error) is RuntimeError):
        raise error
    return unprocessable_event(error)


def unprocessable_event(error: BaseException) -> InvalidEvent:
    """The refusal of an event whose processing raised an unexpected error."""
    return InvalidEvent(Reason.UNPROCESSABLE, f"{type(error).__name__}: {error}")


async def isolating_failures(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[None]],
    give_up: Callable[[Item, InvalidEvent], Awaitable[None]],
) -> None:
    """Process all items at once; if an item makes that fail, process halves, until it is alone.

    Args:
        items: In their order, which stays.
        work: Does all of what it is given, or nothing.
        give_up: Called with each item that cannot be worked on even alone.

    Raises:
        Exception: What is nobody's fault among the items.
    """
    try:
        await work(items)
    except Exception as error:
        refusal = refusal_of(error)
        if not items:
            raise
        if len(items) == 1:
            await give_up(items[0], refusal)
            return
        middle = len(items) // 2
        await isolating_failures(items[:middle], work, give_up)
        await isolating_failures(items[middle:], work, give_up)

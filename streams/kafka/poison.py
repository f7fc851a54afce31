"""Poison messages: what breaks whoever works on it is found among its neighbours, refused, and left behind.

A message is at fault where an error comes up again whenever the message is worked on. What has failed around it is not
the message's: Postgres or Kafka away, a partition that has another owner, a process that is gone, memory or threads that
ran out, a database that lacks a table or a right. Such errors are tried again, or end the process.
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
    """Why the one event that was worked on when `error` came up can never be applied.

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
    return unprocessable(error)


def unprocessable(error: BaseException) -> InvalidEvent:
    """The refusal of an event whose processing raised `error`, which nobody foresaw."""
    return InvalidEvent(Reason.UNPROCESSABLE, f"{type(error).__name__}: {error}")


async def isolating(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[None]],
    give_up: Callable[[Item, InvalidEvent], Awaitable[None]],
) -> None:
    """Work on all items at once; where that fails because of one, on halves, until it is alone.

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
        await isolating(items[:middle], work, give_up)
        await isolating(items[middle:], work, give_up)

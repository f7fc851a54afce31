"""What is a message's fault, what is not, and how the culprit is found."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from asyncpg.exceptions import _base
from hypothesis import given
from hypothesis import strategies as st

from store.errors import FencedError, StoreUnavailableError, TrackRejectedError
from store.pool import translated_errors
from streams.contracts import InvalidEvent, Reason
from streams.kafka.poison import isolating_failures, refusal_of
from streams.kafka.retry import is_transient

pytestmark = pytest.mark.unit

OF_A_MESSAGE = [
    OverflowError("date value out of range"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    RecursionError("maximum recursion depth exceeded"),
    KeyError("x"),
    AttributeError("'str' object has no attribute 'get'"),
    asyncpg.NumericValueOutOfRangeError("value out of range: underflow"),
    _base.DataError("invalid input for query argument $1"),
]
OF_THE_ENVIRONMENT = [
    StoreUnavailableError("away"),
    FencedError(1, 2),
    KafkaConnectionError(),
    ConnectionResetError(),
    TimeoutError(),
    MemoryError(),
    RuntimeError("can't start new thread"),
    ImportError("no numba"),
    asyncpg.UndefinedTableError("relation tracks does not exist"),
    asyncpg.InsufficientPrivilegeError("permission denied"),
    asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
]


@pytest.mark.parametrize("error", OF_A_MESSAGE, ids=lambda error: type(error).__name__)
def test_an_error_of_a_message_is_a_refusal_that_names_its_class(error: Exception) -> None:
    """The class of what nobody foresaw stands in the detail, in one printable line."""
    refusal = refusal_of(error)
    assert refusal.reason is Reason.UNPROCESSABLE
    assert refusal.detail.startswith(type(error).__name__ + ": ")
    assert refusal.detail.isprintable()


@pytest.mark.parametrize("error", OF_THE_ENVIRONMENT, ids=lambda error: type(error).__name__)
def test_what_fails_around_a_message_is_not_its_fault(error: Exception) -> None:
    """It is raised again: it is tried again, or ends the process."""
    with pytest.raises(type(error)):
        refusal_of(error)


def test_known_refusals_keep_their_reason() -> None:
    """What the contract refuses, and a row that Postgres refuses, are told as before."""
    invalid = InvalidEvent(Reason.ZERO_VECTOR, "zero")
    assert refusal_of(invalid) is invalid
    assert refusal_of(TrackRejectedError("no")).reason is Reason.INVALID_METADATA


def test_a_value_that_cannot_be_sent_to_postgres_is_not_postgres_being_away() -> None:
    """Asyncpg's error of a value is an InterfaceError; waiting for it to pass would never end."""
    with pytest.raises(_base.DataError), translated_errors():
        raise _base.DataError("invalid input")
    with pytest.raises(StoreUnavailableError), translated_errors():
        raise asyncpg.InterfaceError("connection is closed")


def test_a_message_that_is_too_large_is_not_tried_for_ever() -> None:
    """It is a KafkaError, and comes again however often it is sent."""
    assert is_transient(KafkaConnectionError())
    assert not is_transient(MessageSizeTooLargeError())


@given(st.lists(st.booleans(), max_size=40))
def test_culprits_are_found_and_everything_else_is_done_in_order(poisonous: list[bool]) -> None:
    """Whichever and however many fail, the others are worked on once each, in their order."""
    done: list[int] = []
    given_up: list[int] = []

    async def work(part: Sequence[int]) -> None:
        if any(poisonous[i] for i in part):
            raise KeyError("poison")
        done.extend(part)

    async def give_up(item: int, error: InvalidEvent) -> None:
        assert error.detail == "KeyError: 'poison'"
        given_up.append(item)

    asyncio.run(isolating_failures(range(len(poisonous)), work, give_up))
    assert done == [i for i, poison in enumerate(poisonous) if not poison]
    assert given_up == [i for i, poison in enumerate(poisonous) if poison]


def test_an_error_of_the_environment_stops_the_search_for_a_culprit() -> None:
    """Nothing is given up because Postgres went away meanwhile."""

    async def work(part: Sequence[int]) -> None:
        raise KeyError("poison") if len(part) > 1 else StoreUnavailableError("away")

    async def give_up(item: int, error: InvalidEvent) -> None:
        raise AssertionError("nobody is to be given up")

    with pytest.raises(StoreUnavailableError):
        asyncio.run(isolating_failures(range(4), work, give_up))

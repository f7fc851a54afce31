"""Conversions of time: whole microseconds since 1970 in UTC, within the years that Postgres and Python share.

A float of seconds is exact to the microsecond up to the year 2255 only, and rounds the last moments of the year 9999 to
the year 10000, which nothing can read back.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Go writes this for a time that was never set.
_GO_ZERO: Final = datetime.min.replace(tzinfo=UTC)
# The last microsecond but one of the year 9999: asyncpg writes the last one as Postgres's infinity.
_LAST: Final = datetime.max.replace(tzinfo=UTC) - _MICROSECOND
LATEST: Final = (_LAST - _EPOCH) // _MICROSECOND


def microseconds_of(moment: datetime) -> int:
    """An aware time as microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Microseconds since 1970 as an aware time in UTC, exactly.

    Raises:
        OverflowError: It is not within the years 1 to 9999.
    """
    if microseconds > LATEST:
        raise OverflowError(f"{microseconds} microseconds are behind the year 9999")
    return _EPOCH + timedelta(microseconds=microseconds)


def now_microseconds() -> int:
    """This machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1_000


def read_moment(text: str) -> datetime | None:
    """ISO 8601 text as an aware time in UTC, without a zone taken as UTC; None for Go's zero time.

    Digits beyond microseconds are cut off, and the last microsecond of the year 9999 is the one before it.

    Raises:
        ValueError: It is no time within the years 1 to 9999 of UTC.
    """
    moment = datetime.fromisoformat(text)
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return None if moment == _GO_ZERO else min(moment, _LAST)


def kafka_microseconds(timestamp: int) -> int | None:
    """A Kafka message's timestamp, milliseconds since 1970, as microseconds; None where it is no time.

    Kafka's protocol has -1 for "none" and no other negative number. A time after the year 9999 is in another unit.
    """
    return timestamp * 1_000 if 0 <= timestamp <= LATEST // 1_000 else None


def kafka_moment(timestamp: int) -> datetime | None:
    """A Kafka message's timestamp as an aware time in UTC; None where it is no time."""
    microseconds = kafka_microseconds(timestamp)
    return None if microseconds is None else moment_of(microseconds)


def _without_zero(value: Any) -> Any:
    try:
        return read_moment(value) and value if isinstance(value, str) else value
    except ValueError:
        return value


# A time in a request; Go's zero time counts as missing.
GivenMoment = Annotated[
    AwareDatetime | None, BeforeValidator(_without_zero, json_schema_input_type=AwareDatetime | None)
]

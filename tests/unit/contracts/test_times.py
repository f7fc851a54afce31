"""Time is whole microseconds, exactly, within the years 1 to 9999."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts import RecommendationQuery, times

pytestmark = pytest.mark.unit

moments = st.datetimes(timezones=st.timezones() | st.just(UTC))
LAST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


@given(st.datetimes(timezones=st.just(UTC), max_value=LAST.replace(tzinfo=None)))
def test_every_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    """Microseconds and back: the same time, from the first of year 1 to the last but one of year 9999."""
    assert times.moment_of(times.microseconds_of(moment)) == moment


def test_the_last_time_there_is_stays_in_its_year() -> None:
    """Digits beyond microseconds are cut off, never rounded up into a year that nothing reads."""
    read = times.read_moment("9999-12-31T23:59:59.9999999Z")
    assert read == LAST
    assert times.microseconds_of(LAST) == times.LATEST
    with pytest.raises(OverflowError):
        times.moment_of(times.LATEST + 1)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000+00:00", "0001-01-01"])
def test_gos_zero_time_is_no_time(text: str) -> None:
    """What Go writes for a time that was never set is read as none; a microsecond later is a time."""
    assert times.read_moment(text) is None
    assert times.read_moment("0001-01-01T00:00:00.000001Z") == datetime.min.replace(tzinfo=UTC) + timedelta(
        microseconds=1
    )


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01", "soon", "", "10000-01-01", "\ud800"]
)
def test_what_is_no_time_of_these_years_is_a_value_error(text: str) -> None:
    """A zone may move a time out of the years that there are."""
    with pytest.raises(ValueError, match=r"."):
        times.read_moment(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_kafka_timestamp_is_a_time_or_none(timestamp: int) -> None:
    """Any 64 bits: a negative one, or one behind the year 9999, is none."""
    found = times.kafka_microseconds(timestamp)
    if found is None:
        assert timestamp < 0 or timestamp > times.LATEST // 1_000
        assert times.kafka_moment(timestamp) is None
    else:
        assert times.microseconds_of(times.kafka_moment(timestamp) or LAST) == timestamp * 1_000


def test_microseconds_where_milliseconds_belong_are_no_time() -> None:
    """A producer that writes microseconds says nothing of when."""
    assert times.kafka_microseconds(1_790_000_000_000_000) is None
    assert times.kafka_microseconds(-1) is None


def test_gos_zero_time_in_a_request_is_none() -> None:
    """A listener's clock that was never set is the worker's."""
    asked = {"track_id": "a", "user_context": {"time": "0001-01-01T00:00:00Z"}}
    assert RecommendationQuery.model_validate(asked).user_context.time is None

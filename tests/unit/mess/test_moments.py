"""Times in command-line options."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mess.moments import parse_moment

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_span_is_counted_from_now(text: str, away: timedelta) -> None:
    """Back, or ahead if it is a time to come."""
    assert parse_moment(text, NOW) == NOW - away
    assert parse_moment(text, NOW, ahead=True) == NOW + away


def test_a_time_without_a_zone_is_utc() -> None:
    """One with a zone keeps it."""
    assert parse_moment("2026-02-01T10:00", NOW) == datetime(2026, 2, 1, 10, tzinfo=UTC)
    assert parse_moment("2026-02-01T10:00+02:00", NOW) == datetime(
        2026, 2, 1, 10, tzinfo=timezone(timedelta(hours=2))
    )


@pytest.mark.parametrize("text", ["", "yesterday", "1w", "-5m", "123456s", "2026-13-01"])
def test_anything_else_is_refused_with_what_there_is(text: str) -> None:
    """The message names both forms."""
    with pytest.raises(ValueError, match=r"is neither a time \(.*\) nor a span \(90s, 30m, 12h, 7d\)"):
        parse_moment(text, NOW)

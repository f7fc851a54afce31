"""Parses times in command-line options."""

from datetime import UTC, datetime

from streams.spans import parse_span


def parse_moment(text: str, now: datetime, *, ahead: bool = False) -> datetime:
    """A time, from ISO 8601 (UTC if it names no zone) or a span: 90s, 30m, 12h, 7d.

    Args:
        text: The option's text.
        now: The present, aware.
        ahead: Whether a span points to the future instead of the past.

    Raises:
        ValueError: It is neither.
    """
    if (away := parse_span(text)) is not None:
        return now + away if ahead else now - away
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time (2026-03-01T12:00) nor a span (90s, 30m, 12h, 7d)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

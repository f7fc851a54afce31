"""Headers of a dead letter. Its key and value are the bytes as they were received."""

from collections.abc import Iterable
from datetime import UTC, datetime

from streams.contracts.reasons import InvalidEvent

HEADER_ERROR = "mess.error"
HEADER_DETAIL = "mess.detail"
HEADER_SOURCE_TOPIC = "mess.source.topic"
HEADER_SOURCE_PARTITION = "mess.source.partition"
HEADER_SOURCE_OFFSET = "mess.source.offset"
HEADER_FAILED_AT = "mess.failed_at"
# The size of a value that is too large for the topic. Value and original headers have been left out.
HEADER_LEFT_OUT = "mess.left_out_bytes"


def dead_letter_headers(
    error: InvalidEvent,
    *,
    topic: str,
    partition: int,
    offset: int,
    failed_at: datetime | None = None,
    received: Iterable[tuple[str, bytes]] = (),
) -> list[tuple[str, bytes]]:
    """Return the headers that say why a message was refused and where it came from.

    Args:
        error: why.
        topic: the topic it was read from.
        partition: its partition there.
        offset: its offset there.
        failed_at: when it was refused, aware; now if not given.
        received: the message's own headers, which are kept ahead of ours. Older `mess.` headers
            (a dead letter published again) are dropped, so that each of ours occurs once.
    """
    moment = (failed_at or datetime.now(UTC)).astimezone(UTC)
    ours = {
        HEADER_ERROR: error.reason.value,
        HEADER_DETAIL: error.detail,
        HEADER_SOURCE_TOPIC: topic,
        HEADER_SOURCE_PARTITION: str(partition),
        HEADER_SOURCE_OFFSET: str(offset),
        HEADER_FAILED_AT: moment.isoformat(),
    }
    kept = [(name, value) for name, value in received if name not in ours]
    return kept + [(name, value.encode()) for name, value in ours.items()]


def read_dead_letter_headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return a message's headers as text, undecodable bytes replaced; the last of a name wins."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}

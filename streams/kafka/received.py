"""A message as it was received, and one that was refused."""

from dataclasses import dataclass

from streams.contracts import InvalidEvent


@dataclass(frozen=True, slots=True)
class Received:
    """A message as Kafka gave it.

    Attributes:
        partition: Of the ingest topic.
        offset: Likewise.
        key: Raw bytes.
        value: Raw bytes; None is a delete.
        timestamp: The message's own, milliseconds since 1970 as Kafka has it, whatever its producer wrote.
        headers: Its headers.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that can never be applied, and why."""

    received: Received
    error: InvalidEvent

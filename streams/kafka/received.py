"""Received and refused messages."""

from dataclasses import dataclass
from typing import Final

from streams.contracts import EventPlace, InvalidEvent

# What Kafka calls the type of a timestamp that the broker gave the message.
APPEND_TIME: Final = 1


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message as Kafka gave it.

    Attributes:
        partition: Of the ingest topic.
        offset: Likewise.
        key: Raw bytes.
        value: Raw bytes; None is a delete.
        timestamp: The message's own, milliseconds since 1970 as Kafka has it, whatever its producer wrote.
        headers: Its headers.
        appended: Whether that time is the broker's, when it appended the message, and not its producer's.
        follows: The offset behind the message handed out before it, below which a reader must have read everything; None
            where that is not known.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()
    appended: bool = False
    follows: int | None = None

    @property
    def place(self) -> EventPlace:
        """Where it stands among the events of its track.

        Its time counts whosever it is: a copy that was written back has the broker's of the log that it is of.
        """
        return EventPlace(self.partition, self.offset, max(0, int(self.timestamp)))


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that can never be applied, and why."""

    received: ReceivedMessage
    error: InvalidEvent

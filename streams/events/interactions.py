"""Interactions of listeners with tracks."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.events.door import (
    MAX_EVENT_BYTES,
    TrackId,
    check_same_track,
    first_error,
    load_object,
    read_event_time,
    read_key,
)
from streams.events.reasons import InvalidEvent, Reason


class InteractionType(StrEnum):
    """What a listener did."""

    PLAY = "play"
    LIKE = "like"
    SKIP = "skip"


class Interaction(BaseModel):
    """A listener played, liked or skipped a track."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    track_id: TrackId
    type: InteractionType = Field(description="What the listener did", examples=["play"])
    user_id: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="The listener, as the producer names them",
        examples=["u-17"],
    )
    event_time: datetime | None = Field(
        None,
        description="When, ISO 8601; UTC if it names no zone. Absent: the time of the message",
        examples=["2026-02-03T04:05:06Z"],
    )


def parse_interaction(
    key: bytes | None, value: bytes | None, *, max_bytes: int = MAX_EVENT_BYTES
) -> Interaction:
    """Read one message of `track-interactions`.

    Raises:
        InvalidEvent: the message breaks the contract; nothing else is raised, whatever the bytes.
    """
    track_id = read_key(key)
    event = load_object(value, max_bytes=max_bytes)
    check_same_track(track_id, event)
    moment = read_event_time(event.get("event_time"))
    try:
        read = Interaction.model_validate({**event, "event_time": moment})
    except ValidationError as exc:
        raise InvalidEvent(Reason.INVALID_INTERACTION, first_error(exc)) from None
    if read.user_id is not None and not read.user_id.isprintable():
        raise InvalidEvent(Reason.INVALID_INTERACTION, "user_id: contains a character that cannot be printed")
    return read

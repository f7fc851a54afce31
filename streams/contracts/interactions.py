"""Interactions of listeners with tracks."""

import hashlib
from datetime import datetime
from enum import StrEnum

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.contracts.reasons import InvalidEvent, Reason
from streams.contracts.validation import (
    MAX_EVENT_BYTES,
    TrackId,
    check_same_track,
    first_error,
    is_identifier,
    load_object,
    read_event_time,
    read_key,
)


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
    event_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="The event, as the producer names it: a second one of the same name counts no more. Absent: track, "
        "type, user_id and event_time together, if all are given",
        examples=["e-2f1c"],
    )
    event_time: datetime | None = Field(
        None,
        description="When, ISO 8601; UTC if it names no zone. Absent: the time of the message",
        examples=["2026-02-03T04:05:06Z"],
    )


def interaction_identity(read: Interaction) -> bytes | None:
    """16 bytes that are equal for two deliveries of one event; None if these cannot be told from two events."""
    if read.event_id is not None:
        named: tuple[str, ...] = ("id", read.event_id)
    elif read.user_id is not None and read.event_time is not None:
        named = ("facts", read.track_id, read.type.value, read.user_id, read.event_time.isoformat())
    else:
        return None
    return hashlib.blake2b(orjson.dumps(named), digest_size=16).digest()


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
    for name in ("user_id", "event_id"):
        text = getattr(read, name)
        if text is not None and not is_identifier(text):
            raise InvalidEvent(Reason.INVALID_INTERACTION, f"{name}: contains a control or format character")
    return read

"""One change of a list: parses messages of the feed, and formats changes for readers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import ConsumerRecord

from streams.generations import DEFAULT_SPACE, FIRST_GENERATION, SPACE_PATTERN

_POSITION: Final = "[0-9]{1,6}:(-1|[0-9]{1,18})"
# What a `Last-Event-ID` says: for each partition, the offset seen last, -1 before the first message.
# That of a space other than `default` begins with the space: positions in one feed mean nothing in another.
POSITIONS: Final = f"^(({SPACE_PATTERN.strip('^$')}@)?{_POSITION}(,{_POSITION}){{0,999}})?$"
_ID: Final = re.compile(POSITIONS)
# Overhead of a change beside its bytes.
_CHANGE_BYTES: Final = 200


class UnreadableChangeError(ValueError):
    """A message of the change feed that breaks the contract."""


@dataclass(frozen=True, slots=True)
class FeedChange:
    """One message of the change feed; `value` is None if the track was withdrawn."""

    partition: int
    offset: int
    track_id: str
    value: bytes | None

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return _CHANGE_BYTES + len(self.track_id) + len(self.value or b"")


def change_of(record: ConsumerRecord) -> FeedChange | None:
    """The change of a message; None for one without a usable key."""
    try:
        track_id = (record.key or b"").decode()
    except UnicodeDecodeError:
        return None
    return FeedChange(record.partition, record.offset, track_id, record.value) if track_id else None


def described_change(change: FeedChange, *, whole: bool) -> dict[str, Any]:
    """A change in the form for subscribers.

    Args:
        change: The change.
        whole: Whether to include the new list.

    Raises:
        UnreadableChangeError: The message breaks the contract.
    """
    value: Any = {"added": [], "recommendations": []}
    if change.value is not None:
        try:
            value = orjson.loads(change.value)
        except orjson.JSONDecodeError as error:
            raise UnreadableChangeError(f"is not JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("recommendations"), list):
        raise UnreadableChangeError("is no object with recommendations")
    told: dict[str, Any] = {
        "track_id": change.track_id,
        "reason": "withdrawn" if change.value is None else _reason(value),
        "offset": {"partition": change.partition, "offset": change.offset},
        **{name: value.get(name) for name in ("added", "removed", "version", "generated_at", "source")},
        **_generation(change.value is None, value),
    }
    return told | ({"recommendations": value.get("recommendations")} if whole else {})


def _generation(withdrawn: bool, value: Mapping[str, Any]) -> dict[str, Any]:
    """Whose list it is; messages of earlier versions are of the first generation, and a tombstone does not say."""
    if withdrawn:
        return {"space": None, "generation": None}
    return {
        "space": value.get("space", FIRST_GENERATION.space),
        "generation": value.get("generation", FIRST_GENERATION.number),
    }


def _reason(value: Mapping[str, Any]) -> str:
    if value.get("reason") == "promoted":
        return "promoted"
    added = value.get("added")
    if not isinstance(added, list):
        return "told-again"
    if value.get("removed"):
        return "changed"
    return "first-list" if len(added) == len(value["recommendations"]) > 0 else "changed"


def event_id(seen: Mapping[int, int], space: str) -> str:
    """What `read_positions` reads of a space's feed: partition to offset."""
    positions = ",".join(f"{partition}:{offset}" for partition, offset in sorted(seen.items()))
    return positions if space == DEFAULT_SPACE else f"{space}@{positions}"


def read_positions(text: str, space: str) -> dict[int, int]:
    """What a `Last-Event-ID` says was seen last of a space's feed: partition to offset, -1 before the first message.

    Of a partition that it names several times the lowest offset counts: nothing is left out. An empty one has seen nothing.

    Raises:
        ValueError: It is not one of ours, or of another space's feed.
    """
    if not _ID.fullmatch(text):
        raise ValueError("is not partition:offset, or up to a thousand of these separated by commas")
    if not text:
        return {}
    named, _, positions = text.rpartition("@")
    if (of := named or DEFAULT_SPACE) != space:
        raise ValueError(f"is of the changes of space {of}, not of {space}")
    seen: dict[int, int] = {}
    for part in positions.split(","):
        partition, offset = map(int, part.split(":"))
        seen[partition] = min(offset, seen.get(partition, offset))
    return seen

"""Validation that the events of all topics share."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, Field, JsonValue, ValidationError

from streams.contracts.reasons import InvalidEvent, Reason, quote_value
from streams.contracts.times import read_moment

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_MAX_TRACK_ID: Final = 512
_KINDS: Final = {
    dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip
# Pydantic's schema says what values have names that match a pattern, and not that there are no others.
NO_OTHER_NAMES: Final[dict[str, JsonValue]] = {"additionalProperties": False}


# An identifier holds no control, surrogate, line or paragraph separator, or format character (Unicode's Cc, Cs, Zl, Zp, and
# Cf of the first plane), except the joiners U+200C, U+200D and U+2060. Unassigned characters are accepted, so the rule does
# not depend on Python's version of Unicode. The escapes are those that Python, ECMAScript and Rust have in common.
_PATTERN: Final = (
    r"^[^\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2061-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]+$"
)
_IDENTIFIER: Final = re.compile(_PATTERN.replace("]+$", r"\ud800-\udfff]+\Z"))
_RULE: Final = "1 to 512 characters, none of them a control or format character"


_WRONG: Final = "contains a control or format character"


def is_identifier(text: str) -> bool:
    """Whether a text is an identifier: one or more letters, marks, numbers, punctuation, symbols, spaces and joiners."""
    return (text.isprintable() and bool(text)) or _IDENTIFIER.match(text) is not None


def _identifier(track_id: str) -> str:
    if not is_identifier(track_id):
        raise ValueError(f"{quote_value(track_id)} {_WRONG}")
    return track_id


# The rule of `check_track_id` for models.
TrackId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_MAX_TRACK_ID,
        description=f"The track's identifier: {_RULE}",
        examples=["smd/Bach_BWV849-01"],
        json_schema_extra={"pattern": _PATTERN},
    ),
    AfterValidator(_identifier),
]


def json_kind(value: object) -> str:
    """JSON's name for a value's type, with its article."""
    return _KINDS.get(type(value), type(value).__name__)


def check_track_id(track_id: object) -> str:
    """Return a valid track id.

    Raises:
        InvalidEvent: `invalid_track_id`, unless it is an identifier (`is_identifier`) of 1 to 512 characters.
    """
    if not isinstance(track_id, str):
        wrong = "is missing" if track_id is None else f"must be text, not {json_kind(track_id)}"
    elif not track_id:
        wrong = "is empty"
    elif len(track_id) > _MAX_TRACK_ID:
        wrong = f"is {len(track_id):,} characters long; at most {_MAX_TRACK_ID} are allowed"
    elif not is_identifier(track_id):
        wrong = f"{quote_value(track_id)} {_WRONG}"
    else:
        return track_id
    raise InvalidEvent(Reason.INVALID_TRACK_ID, f"track_id {wrong}")


def read_key(key: bytes | None) -> str:
    """Return the track id that a message's key holds.

    Raises:
        InvalidEvent: `missing_key`, `not_utf8` or `invalid_track_id`.
    """
    if not key:
        raise InvalidEvent(Reason.MISSING_KEY, "the message has no key; it must be the track_id")
    return check_track_id(_utf8(key, "key"))


def check_same_track(track_id: str, event: Mapping[str, Any]) -> None:
    """Raise `InvalidEvent` (`key_mismatch`, `invalid_track_id`) unless the event is of the key's track."""
    inside = check_track_id(event.get("track_id"))
    if inside != track_id:
        raise InvalidEvent(
            Reason.KEY_MISMATCH, f"key is {quote_value(track_id)} but track_id is {quote_value(inside)}"
        )


def _utf8(raw: bytes, part: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise InvalidEvent(Reason.NOT_UTF8, f"{part} is not UTF-8 at byte {exc.start}") from None


def load_object(
    value: bytes | None, *, max_bytes: int = MAX_EVENT_BYTES, any_text: bool = False
) -> dict[str, Any]:
    """Return the JSON object that `value` holds.

    The words NaN and Infinity, which Python and others write, are read as floats: a later check refuses them by name, and
    in metadata they count as missing. If a name occurs twice, the last one counts.

    Args:
        value: The bytes.
        max_bytes: Longer values are refused.
        any_text: Accept lone surrogates in keys and values; the caller refuses them and names the field.

    Raises:
        InvalidEvent: `too_large`, `not_utf8` or `malformed_json`.
    """
    if value is None:
        raise InvalidEvent(Reason.MALFORMED_JSON, "value is null")
    if len(value) > max_bytes:
        raise InvalidEvent(
            Reason.TOO_LARGE, f"value is {len(value):,} bytes long; at most {max_bytes:,} are read"
        )
    try:
        loaded = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        loaded = _load_leniently(value, str(exc))
        if not any_text and (wrong := _unwritable(loaded)):
            raise InvalidEvent(Reason.MALFORMED_JSON, wrong) from None
    if not isinstance(loaded, dict):
        raise InvalidEvent(Reason.MALFORMED_JSON, f"value must be a JSON object, not {json_kind(loaded)}")
    return loaded


def _load_leniently(value: bytes, problem: str) -> Any:
    if not value:
        raise InvalidEvent(Reason.MALFORMED_JSON, "value is empty (a delete is a null value)")
    try:
        return json.loads(_utf8(value, "value"))
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, InvalidEvent):
            raise
        raise InvalidEvent(Reason.MALFORMED_JSON, problem) from None


def _unwritable(loaded: object) -> str:
    """What of JSON that only Python reads could never be written down again, in any key or value; else nothing."""
    try:
        json.dumps(loaded, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        return f"value has a lone surrogate, \\u{ord(exc.object[exc.start]):04x}, which is not valid Unicode text"
    except RecursionError:
        return "value is nested too deeply"
    return ""


def first_error(error: ValidationError) -> str:
    """Return the first thing that a model refused, with its key, on one line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{where}: {message}" if where else message) + more


def read_event_time(value: object) -> datetime | None:
    """Return an ISO 8601 time as an aware one in UTC; None for null, and for Go's zero time.

    Raises:
        InvalidEvent: `invalid_event_time`.
    """
    if value is None:
        return None
    try:
        return read_moment(value if isinstance(value, str) else "")
    except ValueError:
        wrong = f"event_time must be an ISO 8601 time, not {quote_value(value)}"
        raise InvalidEvent(Reason.INVALID_EVENT_TIME, wrong) from None

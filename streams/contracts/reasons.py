"""Why an event is refused."""

from enum import StrEnum

_MAX_DETAIL = 300


class Reason(StrEnum):
    """The closed set of reasons; each is a value of the `mess.error` header and of a metric's label."""

    MISSING_KEY = "missing_key"
    KEY_MISMATCH = "key_mismatch"
    INVALID_TRACK_ID = "invalid_track_id"
    NOT_UTF8 = "not_utf8"
    MALFORMED_JSON = "malformed_json"
    TOO_LARGE = "too_large"
    MISSING_EMBEDDING = "missing_embedding"
    INVALID_EMBEDDING = "invalid_embedding"
    WRONG_DIMENSION = "wrong_dimension"
    WRONG_ASPECTS = "wrong_aspects"
    INVALID_MODEL = "invalid_model"
    WRONG_MODEL = "wrong_model"
    UNKNOWN_TRACK = "unknown_track"
    NOT_FINITE = "not_finite"
    ZERO_VECTOR = "zero_vector"
    INVALID_METADATA = "invalid_metadata"
    INVALID_EVENT_TIME = "invalid_event_time"
    INVALID_INTERACTION = "invalid_interaction"
    INVALID_REQUEST = "invalid_request"
    UNPROCESSABLE = "unprocessable"


class InvalidEvent(ValueError):  # noqa: N818 - it names the event's state, as people say it
    """An event that can never be applied, however often it is tried.

    Attributes:
        reason: which rule it breaks.
        detail: one printable line, at most 300 characters, for a person.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        printable = "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in detail[: _MAX_DETAIL + 1]
        )
        self.reason = reason
        self.detail = printable if len(printable) <= _MAX_DETAIL else printable[: _MAX_DETAIL - 1] + "…"
        super().__init__(f"{reason.value}: {self.detail}")


def quote_value(value: object, limit: int = 60) -> str:
    """`value` as a detail can quote it: short, on one line."""
    text = value if isinstance(value, str) else repr(value)
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return repr(cut) if isinstance(value, str) else cut

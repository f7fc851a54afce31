"""The parameter `as_of`: a time, or the version of a list."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from streams.contracts.times import read_moment

AsOf = datetime | int
_MAX_VERSION: Final = 2**63 - 1
_FORM: Final = (
    "is neither a list version nor a time with its zone, such as 2026-03-01T12:00:00Z (+ is written %2B)"
)


def parse_as_of(text: str) -> AsOf:
    """The version or the time, in UTC, that a text names.

    Raises:
        ValueError: It names neither, or a time to come; the message goes after the name of the field.
    """
    if text.isascii() and text.isdigit():
        # Longer ones are beyond any version.
        return min(int(text[:20]), _MAX_VERSION)
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
        moment = read_moment(text)
    except ValueError:
        raise ValueError(_FORM) from None
    if not aware or "T" not in text.upper() or moment is None:
        raise ValueError(_FORM)
    if moment > datetime.now(UTC):
        raise ValueError("is a time to come")
    return moment


def _parsed(text: str) -> str:
    parse_as_of(text)
    return text


AsOfParameter = Annotated[
    Annotated[
        str,
        Field(
            json_schema_extra={
                "anyOf": [{"pattern": "^[0-9]{1,18}$"}, {"format": "date-time", "pattern": "T"}]
            }
        ),
        AfterValidator(_parsed),
    ]
    | None,
    Field(
        description="The stored list as it was at a time or with a list version, if workers keep lists for so long "
        "(`MESS_LIST_HISTORY`). With `space`, `top_k`, `exclude` and `format` alone.",
        examples=["2026-03-01T12:00:00Z"],
    ),
]

"""The types of values in requests."""

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from streams.contracts.values import AS_WHOLE, Finite, Flag, Json, Name, Number, Setting, Text

pytestmark = pytest.mark.unit

Whole = Annotated[int, Field(ge=1), AS_WHOLE]


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (Whole, 5.0, 5),
        (Number, 5, 5),
        (Number, 2**64 - 1, 2**64 - 1),
        (Number, 2**70, float(2**70)),
        (Setting, True, True),
        (Setting, 0.5, 0.5),
        (Finite, 1, 1.0),
        (Flag, False, False),
        (Json, {"a": [1, None]}, {"a": [1, None]}),
    ],
)
def test_numbers_are_read_as_json_has_them(kind: Any, given: object, read: object) -> None:
    """JSON has one kind of number; what is beyond 64 bits is read as other readers do."""
    found = TypeAdapter(kind).validate_python(given)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Whole, True),
        (Whole, "5"),
        (Whole, 5.5),
        (Whole, 0),
        (Number, True),
        (Number, "5"),
        (Number, float("nan")),
        (Number, 10**400),
        (Setting, None),
        (Setting, "true"),
        (Finite, float("inf")),
        (Flag, 1),
        (Json, {"a": "\0"}),
        (Name, "a\0b"),
        (Name, "x" * 51),
        (Text, ""),
        (Text, "\ud800"),
    ],
)
def test_what_cannot_be_written_down_again_is_refused(kind: Any, given: object) -> None:
    """No text for a number, no truth value for one, and nothing that Postgres cannot hold."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(given)

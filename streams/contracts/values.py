"""Types of values in requests: text that can be stored, and numbers."""

import math
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict

from streams.contracts import cleaning
from streams.contracts.problems import refused_value

# Longer integers are read as floats, as other JSON readers do.
_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1


def _whole(value: Any) -> int:
    # JSON has one kind of number: 5.0 is a whole number.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused_value("must be a whole number")
    return value


def _finite(value: Any) -> int | float | None:
    """A number as it can be written down again; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and _LEAST <= value <= _MOST:
        return value
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(value: Any) -> int | float:
    if (number := _finite(value)) is None:
        raise refused_value("must be a finite number")
    return number


def _setting(value: Any) -> bool | int | float:
    if isinstance(value, bool):
        return value
    if (number := _finite(value)) is None:
        raise refused_value("must be a number or true or false")
    return number


# Requests are stored, as JSON and in Postgres: text that these cannot hold is refused.
_STORABLE: Final = {"pattern": r"^[^\u0000]*$"}
Text = Annotated[
    str,
    Field(min_length=1, max_length=2_000, json_schema_extra=_STORABLE),
    AfterValidator(cleaning.require_storable),
]
Name = Annotated[
    str,
    Field(min_length=1, max_length=50, json_schema_extra=_STORABLE),
    AfterValidator(cleaning.require_storable),
]
Json = Annotated[Any, AfterValidator(cleaning.plain_json)]

Flag = Annotated[bool, Strict()]
# Bounds stand before it, or JSON Schema does not know them: Annotated[int, Field(ge=1), AS_WHOLE].
AS_WHOLE: Final = BeforeValidator(_whole)
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Number = Annotated[int | float, PlainValidator(_number, json_schema_input_type=int | float)]
Setting = Annotated[bool | int | float, PlainValidator(_setting, json_schema_input_type=bool | int | float)]

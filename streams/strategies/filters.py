"""Conditions on metadata: equality, sets, ranges, and tags."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from streams.metadata_fields import COMPARED_BY, DATE_FIELDS, LIST_FIELDS, METADATA, NUMBER_FIELDS
from streams.strategies.errors import InvalidQuery
from streams.strategies.text import plain_text
from streams.strategies.types import Filter

NUMBERS: Final = frozenset(NUMBER_FIELDS)
DATES: Final = frozenset(DATE_FIELDS)
LISTS: Final = frozenset(LIST_FIELDS)

# Fields in the order in which their filters are relaxed when too few tracks meet them: the least descriptive first.
# `extra.<key>` precedes all of these.
RELAXATION: Final = tuple(field.name for field in sorted(METADATA, key=lambda field: field.relaxed))
FIELDS: Final = frozenset(RELAXATION)
_ORDER: Final = {name: i for i, name in enumerate(RELAXATION)}
_EXTRA: Final = "extra."
_ISO_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", re.ASCII)

# Reads a date as YYYY, YYYY-MM or YYYY-MM-DD; None for what is missing, a ValueError for what is no date.
ReadDate = Callable[[Any], str | None]


def iso_date(value: Any) -> str | None:
    """A date that is written as YYYY, YYYY-MM or YYYY-MM-DD already.

    Raises:
        ValueError: it is not.
    """
    parts = _ISO_DATE.fullmatch(str(value).strip())
    if parts is None:
        raise ValueError("is no date")
    year, month, day = parts.groups("01")
    date(int(year), int(month), int(day))
    return parts[0]


def parse_filters(wanted: Mapping[str, Any], read_date: ReadDate = iso_date) -> tuple[Filter, ...]:
    """Parse the filters of a request.

    A field maps to a value (equal; for lists as tags are: has it), to a list (any of them), or to an object of `any`,
    `all` (lists), `not`, `min` and `max`, all of which hold. `artist` means any of a track's `artists`. Text is compared without case, dates at the precision that both
    have.

    Args:
        wanted: Field to condition.
        read_date: How dates are written.

    Raises:
        InvalidQuery: a field that does not exist, or a condition that it cannot meet.
    """
    wanted = {
        name: _with_dates(f"filters.{name}", one, read_date) if name in DATES else one
        for name, one in wanted.items()
    }
    found: list[Filter] = []
    for name, condition in wanted.items():
        if name not in FIELDS and not (name.startswith(_EXTRA) and len(name) > len(_EXTRA)):
            raise InvalidQuery(
                f"filters.{name}", "is not a metadata field; others are filtered on as extra.<key>"
            )
        if isinstance(condition, Mapping):
            found += _object(name, condition)
        else:
            found.append(_set(name, "any", condition))
    return tuple(found)


def _with_dates(place: str, condition: Any, read_date: ReadDate) -> Any:
    """A condition on a date, each date of it as it is compared; `place` is where it stands in the request."""
    if isinstance(condition, Mapping):
        return {
            word: _with_dates(f"{place}.{word}", one, read_date)
            for word, one in condition.items()
            if one is not None
        }
    if isinstance(condition, list | tuple | set | frozenset):
        return [_with_dates(place, one, read_date) for one in condition]
    try:
        found = read_date(condition)
    except ValueError:
        found = None
    if found is None:
        raise InvalidQuery(place, "must be a date: YYYY, YYYY-MM or YYYY-MM-DD")
    return found


def _object(name: str, condition: Mapping[str, Any]) -> list[Filter]:
    unknown = set(condition) - {"any", "all", "not", "min", "max"}
    if unknown or not condition:
        raise InvalidQuery(f"filters.{name}", "must hold any, all, not, min or max")
    found = []
    if "any" in condition:
        found.append(_set(name, "any", condition["any"]))
    if "all" in condition:
        if COMPARED_BY.get(name, name) not in LISTS and not name.startswith(_EXTRA):
            raise InvalidQuery(f"filters.{name}", "has one value: all is for lists such as tags")
        found.append(_set(name, "all", condition["all"]))
    if "not" in condition:
        found.append(_set(name, "not", condition["not"]))
    low, high = condition.get("min"), condition.get("max")
    if low is not None or high is not None:
        found.append(_range(name, low, high))
    elif "min" in condition or "max" in condition:
        raise InvalidQuery(f"filters.{name}", "a range needs min or max")
    return found


def _set(name: str, kind: Any, given: Any) -> Filter:
    values = list(given) if isinstance(given, list | tuple | set | frozenset) else [given]
    if not values:
        raise InvalidQuery(f"filters.{name}", "an empty list matches nothing")
    return Filter(
        COMPARED_BY.get(name, name), kind, values=frozenset(_value(name, value) for value in values)
    )


def _value(name: str, given: Any) -> str | float:
    if name in NUMBERS:
        return _number(f"filters.{name}", given)
    if isinstance(given, str) and as_text(given) is None:
        raise InvalidQuery(f"filters.{name}", "is blank, or a word for no value")
    if isinstance(given, Mapping | list | tuple) or (text := as_text(given)) is None:
        raise InvalidQuery(f"filters.{name}", "must be text, a number, or a list of them")
    return text


def as_text(value: Any) -> str | None:
    """A value as text for comparison, None if missing: `True` equals `"true"`, `3` equals `3.0`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return plain_text(value)


def _number(place: str, given: Any) -> float:
    number = as_number(given)
    if number is None:
        raise InvalidQuery(place, "must be a number")
    return number


def as_number(value: Any) -> float | None:
    """A value as a number, None if it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _range(name: str, low: Any, high: Any) -> Filter:
    if name not in NUMBERS and name not in DATES and not name.startswith(_EXTRA):
        raise InvalidQuery(f"filters.{name}", "is not a number or a date: it has no range")
    least, most = (
        bound if bound is None or name in DATES else _number(f"filters.{name}.{word}", bound)
        for word, bound in (("min", low), ("max", high))
    )
    if least is not None and most is not None and _above(least, most):
        raise InvalidQuery(f"filters.{name}", "min is above max")
    return Filter(name, "range", minimum=least, maximum=most)


def _above(one: Any, other: Any) -> bool:
    """Whether a number, or a date as far as both are known, is above another."""
    if isinstance(one, str):
        known = min(len(one), len(other))
        return bool(one[:known] > other[:known])
    return bool(one > other)


def relaxation_order(filters: tuple[Filter, ...]) -> list[Filter]:
    """The filters in the order in which they are relaxed; a `not` is an exclusion and never relaxed."""
    positive = [condition for condition in filters if condition.kind != "not"]
    return sorted(positive, key=lambda condition: (_ORDER.get(condition.field, -1), condition.field))

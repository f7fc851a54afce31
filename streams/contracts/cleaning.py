"""Reading of single metadata values as catalogues really spell them.

Each reader takes a value of any type and returns a clean one, or `None` for what is missing; it raises
`ValueError` for what it cannot understand. Pydantic calls them before its own validation.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import orjson

_MISSING: Final = frozenset(
    {"", "nan", "-nan", "n/a", "na", "#n/a", "#na", "<na>", "null", "none", "nat", "nil", "-", "--", "?"}
)
_DATE_FORMS: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y",
    "%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y", "%d. %B %Y", "%d-%b-%Y",
)  # fmt: skip
_MONTH_FORMS: Final = ("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%B %Y", "%b %Y")
_COMPACT_DATE: Final = re.compile(r"\d{8}")
_YEAR_SPAN: Final = re.compile(
    r"(?:c\.?|ca\.?|circa|about|before|after|~)?\s*(-\d{1,4}|\d{3,4})(?:\s*[-\u2013\u2014/]\s*\d{1,4})?\s*\??",
    re.IGNORECASE,
)
_CLOCK: Final = re.compile(r"(?:(\d{1,4}):)?(\d{1,5}):([0-5]?\d(?:[.,]\d+)?)")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_TAG_BREAK: Final = re.compile(r"[,;]")
_EXTRA_BYTES: Final = 64 * 1024
_EXTRA_DEPTH: Final = 16
_TAG_BYTES: Final = 600
_INT64: Final = 2**63


def is_missing(value: object) -> bool:
    """Tell whether a value is one of the many ways to write nothing."""
    if value is None:
        return True
    if isinstance(value, str):
        return len(value) < 16 and value.strip().casefold() in _MISSING
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    # pandas.NaT and numpy's NaT are the only values unequal to themselves that reach here.
    return isinstance(value, np.datetime64) and bool(np.isnat(value))


def _plain(value: object) -> object:
    """Return a numpy scalar as the Python value it stands for."""
    return value.item() if isinstance(value, np.generic) else value


def storable(value: str) -> str:
    """Return `value` unchanged, refusing what neither UTF-8 nor Postgres can hold."""
    _stored_size(value)
    return value


def _stored_size(value: str) -> int:
    if "\0" in value:
        raise ValueError("contains a NUL character, which cannot be stored")
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate, which is not valid Unicode text") from None


def checked_text(value: str, limit: int) -> str:
    """Return `value` unchanged, refusing what cannot be stored and what is too long.

    Args:
        value: any string.
        limit: most bytes of UTF-8 it may take.
    """
    size = _stored_size(value)
    if size > limit:
        raise ValueError(f"is {size:,} bytes long; at most {limit:,} are kept")
    return value


def text(limit: int) -> Callable[[object], str | None]:
    """Return a reader of text of at most `limit` bytes; numbers are taken as their digits."""

    def read(value: object) -> str | None:
        if isinstance(value, str):
            return None if is_missing(value) else checked_text(value.strip(), limit)
        if is_missing(value):
            return None
        value = _plain(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isinstance(value, float):
                _finite(value)
                return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
            if abs(value) < _INT64:
                return str(value)
        raise _refusal("text", value)

    return read


def number(value: object) -> float | None:
    """Read a finite number, given as one or as text."""
    if is_missing(value):
        return None
    value = _plain(value)
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise _refusal("a number", value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal("a number", value)
    if isinstance(value, int) and abs(value) >= _INT64:
        raise _refusal("a number", value)
    return _finite(float(value))


def year(value: object) -> int | None:
    """Read a year: `1722`, `1722.0`, `"c. 1722"`, `"1722-23"` (the first of the span), or any date."""
    if is_missing(value):
        return None
    value = _plain(value)
    if isinstance(value, str):
        if span := _YEAR_SPAN.fullmatch(value.strip()):
            return int(span[1])
        # Also "1722.0", which a spreadsheet makes of a column with gaps.
        if _NUMBER.fullmatch(value.strip()):
            value = float(value)
    if isinstance(value, str | date):
        found = partial_date(value)
        return int(found[:4]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal("a year", value)
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        raise _refusal("a year", value)
    return int(value)


def seconds(value: object) -> float | None:
    """Read a duration in seconds: a number, or text such as `191.5`, `3:11` and `1:02:03`."""
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, rest = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    try:
        return number(value)
    except ValueError:
        raise _refusal("a duration in seconds or m:ss", value) from None


def partial_date(value: object) -> str | None:
    """Read a date as ISO 8601 text, no more precise than it was given: YYYY, YYYY-MM or YYYY-MM-DD.

    With slashes the month comes first unless that cannot be; with dots the day does.
    """
    if is_missing(value):
        return None
    value = _plain(value)
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 10**8:
            raise _refusal("a date", value)
        value = str(value)
    if not isinstance(value, str):
        raise _refusal("a date", value)
    return _date_from_text(value.strip())


def _date_from_text(value: str) -> str:
    if len(value) > 64:
        raise _refusal("a date", value)
    if re.fullmatch(r"\d{4}(?:\.0)?", value, re.ASCII) and value[:4] != "0000":
        return value[:4]
    if _COMPACT_DATE.fullmatch(value):
        value = f"{value[:4]}-{value[4:6]}-{value[6:]}"
        # Catalogues write 20090000 for "some time in 2009".
        value = value.replace("-00-00", "") if value.endswith("-00-00") else value.removesuffix("-00")
        if value.isdigit():
            return _date_from_text(value)
    try:
        return datetime.fromisoformat(value).date().isoformat()
    except ValueError:
        return _date_by_form(value)


def _date_by_form(value: str) -> str:
    for forms, kept in ((_DATE_FORMS, 10), (_MONTH_FORMS, 7)):
        for form in forms:
            try:
                return datetime.strptime(value, form).date().isoformat()[:kept]  # noqa: DTZ007 - a day has no zone
            except ValueError:
                continue
    raise _refusal("a date", value)


def tags(value: object) -> tuple[str, ...]:
    """Read tags from a list, or from text with commas or semicolons; duplicates go, the order stays."""
    if is_missing(value):
        return ()
    items: Sequence[object]
    if isinstance(value, str):
        # A list that a spreadsheet turned into text: ['a', 'b'].
        listed = value.strip()
        bracketed = listed[:1] + listed[-1:] == "[]"
        inner = _TAG_BREAK.split(listed[1:-1] if bracketed else listed)
        items = [item.strip().strip("'\"") for item in inner] if bracketed else inner
    elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    else:
        raise _refusal("a list of tags, or text with commas", value)
    if len(items) > 4096:
        raise ValueError(f"has {len(items):,} items")
    read = text(_TAG_BYTES)
    unique: dict[str, str] = {}
    for item in items:
        if tag := read(item):
            unique.setdefault(tag.casefold(), tag)
    return tuple(unique.values())


def free_form(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return `values` as plain finite JSON: NaN becomes null, dates become text.

    Raises:
        ValueError: naming the key, for what JSON or Postgres cannot hold, nesting beyond 16 levels, or
            more than 64 KiB.
    """
    cleaned = {}
    for name, value in values.items():
        try:
            cleaned[checked_text(str(name), 200)] = plain_json(value)
        except ValueError as exc:
            # Pydantic cannot carry a lone surrogate in a message.
            named = str(name)[:60].encode(errors="backslashreplace").decode()
            raise ValueError(f"{named}: {exc}") from None
    size = len(orjson.dumps(cleaned))
    if size > _EXTRA_BYTES:
        raise ValueError(f"extra: is {size:,} bytes long; at most {_EXTRA_BYTES:,} are kept")
    return cleaned


def plain_json(value: object, depth: int = 1) -> object:
    """Return `value` as plain finite JSON that can be stored; `depth` is that of `value` in what it is part of.

    Raises:
        ValueError: it cannot be, or is nested beyond 16 levels.
    """
    if depth > _EXTRA_DEPTH:
        raise ValueError(f"is nested deeper than {_EXTRA_DEPTH} levels")
    if isinstance(value, Mapping):
        return {checked_text(str(name), 200): plain_json(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_json(item, depth + 1) for item in value]
    return _json_scalar(_plain(value))


def _json_scalar(value: object) -> object:
    if isinstance(value, str):
        return checked_text(value, _EXTRA_BYTES)
    if isinstance(value, float):
        return None if math.isnan(value) else _finite(value)
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -_INT64 <= value < 2 * _INT64):
        return value
    raise _refusal("JSON with integers of 64 bits", value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("is infinite")
    return value


def _refusal(wanted: str, value: object) -> ValueError:
    kind = {dict: "an object", list: "a list", bool: "a boolean"}.get(type(value))
    return ValueError(f"must be {wanted}, not {kind or _quoted(value)}")


def _quoted(value: object) -> str:
    if isinstance(value, int) and abs(value) >= _INT64:
        return "an integer beyond 64 bits"
    shown = value if isinstance(value, str) else str(value)
    return repr(shown if len(shown) <= 40 else shown[:39] + "…")

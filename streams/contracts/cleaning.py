"""Reading of single metadata values as catalogues really spell them.

Each reader takes a value of any type and returns a clean one, or `None` for what is missing; it raises
`ValueError` for what it cannot understand. Pydantic calls them before its own validation.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
import orjson

_MISSING: Final = frozenset(
    {"", "nan", "-nan", "n/a", "na", "#n/a", "#na", "<na>", "null", "none", "nat", "nil", "-", "--", "?"}
)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_AMBIGUOUS: Final = re.compile(r"[+-]?\d{1,3},\d{3}")
_POINTS_MARK_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")
_COMMAS_MARK_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})")
_TAG_BREAK: Final = re.compile(r"[,;]")
_EXTRA_BYTES: Final = 64 * 1024
_EXTRA_DEPTH: Final = 16
_KEY_BYTES: Final = 200
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


def plain_scalar(value: object) -> object:
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


def text_reader(limit: int) -> Callable[[object], str | None]:
    """Return a reader of text of at most `limit` bytes; numbers are taken as their digits."""

    def read(value: object) -> str | None:
        if isinstance(value, str):
            value = value.replace("\0", "")
            return None if is_missing(value) else checked_text(value.strip(), limit)
        if is_missing(value):
            return None
        value = plain_scalar(value)
        if isinstance(value, list | tuple) and len(value) == 1:
            return read(value[0])
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isinstance(value, float):
                _finite(value)
                return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
            if abs(value) < _INT64:
                return str(value)
        raise refusal("text", value)

    return read


def decimal(value: str) -> str | None:
    """Return a number's text with a decimal point, whichever mark it has; None if it is none, or ambiguous.

    `191,5` has a decimal comma; `1.234,5` and `1,234,567` have thousands marked. `1,234` may be either.
    """
    if "," in value:
        if _AMBIGUOUS.fullmatch(value):
            return None
        if _POINTS_MARK_THOUSANDS.fullmatch(value):
            value = value.replace(".", "").replace(",", ".")
        elif _COMMAS_MARK_THOUSANDS.fullmatch(value):
            value = value.replace(",", "")
        elif "." not in value:
            value = value.replace(",", ".", 1)
    return value if _NUMBER.fullmatch(value) else None


_read_name: Final = text_reader(_TAG_BYTES)


def number(value: object) -> float | None:
    """Read a finite number, given as one or as text."""
    if is_missing(value):
        return None
    value = plain_scalar(value)
    if isinstance(value, str):
        if (digits := decimal(value.strip())) is None:
            raise refusal("a number", value)
        value = float(digits)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal("a number", value)
    if isinstance(value, int) and abs(value) >= _INT64:
        raise refusal("a number", value)
    return _finite(float(value))


def tags(value: object) -> tuple[str, ...]:
    """Read tags from a list, a list written as text, or text with commas or semicolons.

    Duplicates go, the order stays. Of tags with weights (`["soul", "100"]`, `{"name": "soul", "count": 100}`,
    `{"soul": 100}`) the names stay.
    """
    if is_missing(value):
        return ()
    if isinstance(value, Mapping):
        value = _by_weight(value)
    if isinstance(value, str):
        listed = literal_list(value)
        value = _TAG_BREAK.split(value) if listed is None else listed
    return names(value, "a list of tags, or text with commas")


def names(value: object, wanted: str) -> tuple[str, ...]:
    """Read a list of names, each once, in order; `wanted` says what else it could be.

    Raises:
        ValueError: it is no list of text.
    """
    if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
        raise refusal(wanted, value)
    items: Sequence[object] = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    if len(items) > 4096:
        raise ValueError(f"has {len(items):,} items")
    unique: dict[str, str] = {}
    for item in items:
        if name := _read_name(item if isinstance(item, str) else _unweighted(item)):
            unique.setdefault(name.casefold(), name)
    return tuple(unique.values())


def literal_list(value: str) -> list[object] | None:
    """Return the list that a table turned into text, as Python or JSON writes it; None if it is none."""
    listed = value.strip()
    if listed[:1] + listed[-1:] != "[]" or len(listed) > _EXTRA_BYTES:
        return None
    try:
        found = ast.literal_eval(listed)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        # `[a, b]`, as some writers have it.
        return [item.strip().strip("'\"") for item in _TAG_BREAK.split(listed[1:-1])]
    return list(found)


def _by_weight(value: Mapping[Any, Any]) -> list[Any]:
    """Return the names that map to weights, the weightiest first."""
    try:
        return sorted(value, key=lambda name: -(number(value[name]) or 0.0))
    except ValueError:
        raise refusal("a list of tags, or text with commas", value) from None


def _unweighted(item: object) -> object:
    """Return the name of a tag that comes with its weight."""
    if isinstance(item, Mapping):
        return next((item[key] for key in ("name", "tag", "label") if isinstance(item.get(key), str)), item)
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str):
        try:
            number(item[1])
        except ValueError:
            return item
        return item[0]
    return item


def key(name: object) -> str:
    """Return a key of `extra` as text.

    Raises:
        ValueError: it cannot be stored, or is longer than 200 bytes.
    """
    return checked_text(str(name).replace("\0", ""), _KEY_BYTES)


def storable_key(name: str) -> str:
    """Return as much of a key as can be stored."""
    return _storable_text(name).encode()[:_KEY_BYTES].decode(errors="ignore")


def check_extra_size(extra: Mapping[str, Any]) -> None:
    """Raise `ValueError`, naming the largest key, if `extra` is longer than 64 KiB as JSON."""
    if not extra or (size := len(orjson.dumps(extra))) <= _EXTRA_BYTES:
        return
    raw = extra.get("raw")
    cells = {**extra, **(raw if isinstance(raw, Mapping) else {})}
    cells.pop("raw", None)
    largest = max(cells, key=lambda name: len(orjson.dumps(cells[name])))
    raise ValueError(
        f"extra: is {size:,} bytes long; at most {_EXTRA_BYTES:,} are kept; {largest[:60]} is the largest"
    )


def as_stored(value: object, depth: int = 2) -> object:
    """Return `value` as it was, as nearly as JSON and Postgres can hold it: what they cannot is text instead.

    Args:
        value: anything.
        depth: that of `value` in what it is part of.
    """
    value = plain_scalar(value)
    if isinstance(value, str):
        return _storable_text(value)
    if depth < _EXTRA_DEPTH:
        if isinstance(value, Mapping):
            return {storable_key(str(name)): as_stored(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset | np.ndarray):
            return [as_stored(item, depth + 1) for item in value]
    try:
        return _json_scalar(value)
    except ValueError:
        pass
    try:
        return _storable_text(str(value))
    except RecursionError:
        return "nested too deeply to be kept"


def _storable_text(value: str) -> str:
    return value.replace("\0", "").encode(errors="replace").decode()


def extra_json(value: object) -> object:
    """Return a value of `extra` as plain finite JSON, without NUL characters.

    Raises:
        ValueError: as `plain_json`.
    """
    try:
        return plain_json(value)
    except ValueError:
        return plain_json(_without_nul(value))


def _without_nul(value: object, depth: int = 1) -> object:
    if isinstance(value, str):
        return value.replace("\0", "")
    if depth > _EXTRA_DEPTH:  # it is refused for that
        return value
    if isinstance(value, Mapping):
        return {str(name).replace("\0", ""): _without_nul(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item, depth + 1) for item in value]
    return value


def plain_json(value: object, depth: int = 1) -> object:
    """Return `value` as plain finite JSON that can be stored; `depth` is that of `value` in what it is part of.

    Raises:
        ValueError: it cannot be, or is nested beyond 16 levels.
    """
    if depth > _EXTRA_DEPTH:
        raise ValueError(f"is nested deeper than {_EXTRA_DEPTH} levels")
    if isinstance(value, Mapping):
        return {
            checked_text(str(name), _KEY_BYTES): plain_json(item, depth + 1) for name, item in value.items()
        }
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_json(item, depth + 1) for item in value]
    return _json_scalar(plain_scalar(value))


def _json_scalar(value: object) -> object:
    if isinstance(value, str):
        return checked_text(value, _EXTRA_BYTES)
    if isinstance(value, float):
        return None if math.isnan(value) else _finite(value)
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -_INT64 <= value < 2 * _INT64):
        return value
    raise refusal("JSON with integers of 64 bits", value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("is infinite")
    return value


def refusal(wanted: str, value: object) -> ValueError:
    """Return the error of a value that is not what is wanted."""
    kind = {dict: "an object", list: "a list", bool: "a boolean"}.get(type(value))
    return ValueError(f"must be {wanted}, not {kind or _quoted(value)}")


def _quoted(value: object) -> str:
    if isinstance(value, int) and abs(value) >= _INT64:
        return "an integer beyond 64 bits"
    shown = value if isinstance(value, str) else str(value)
    return repr(shown if len(shown) <= 40 else shown[:39] + "…")

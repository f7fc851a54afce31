"""Readers of single metadata values, in the spellings that catalogues use.

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
    """Whether a value is a spelling of "missing"."""
    if value is None:
        return True
    if isinstance(value, str):
        return len(value) < 16 and value.strip().casefold() in _MISSING
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    # pandas.NaT and numpy's NaT.
    return isinstance(value, np.datetime64) and bool(np.isnat(value))


def plain_scalar(value: object) -> object:
    """A numpy scalar as a Python value; other values unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def require_storable(value: str) -> str:
    """`value` unchanged.

    Raises:
        ValueError: UTF-8 or Postgres cannot hold it.
    """
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
    """`value` unchanged.

    Args:
        value: any string.
        limit: maximum length in bytes of UTF-8.

    Raises:
        ValueError: it cannot be stored, or is too long.
    """
    size = _stored_size(value)
    if size > limit:
        raise ValueError(f"is {size:,} bytes long; at most {limit:,} are kept")
    return value


def text_reader(limit: int) -> Callable[[object], str | None]:
    """A reader of text of at most `limit` bytes; a number is read as its digits."""

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
        raise wrong_kind_error("text", value)

    return read


def decimal_text(value: str) -> str | None:
    """The text of a number with a decimal point; None if `value` is no number, or ambiguous.

    `191,5` has a decimal comma; `1.234,5` and `1,234,567` have thousands separators; `1,234` may have either.
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


def parse_number(value: object) -> float | None:
    """A finite number, from a number or text."""
    if is_missing(value):
        return None
    value = plain_scalar(value)
    if isinstance(value, str):
        if (digits := decimal_text(value.strip())) is None:
            raise wrong_kind_error("a number", value)
        value = float(digits)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_kind_error("a number", value)
    if isinstance(value, int) and abs(value) >= _INT64:
        raise wrong_kind_error("a number", value)
    return _finite(float(value))


def parse_tags(value: object) -> tuple[str, ...]:
    """Tags, from a list, a list written as text, or text with commas or semicolons.

    Duplicates are removed and the order is kept. Weights are dropped: `["soul", "100"]`,
    `{"name": "soul", "count": 100}` and `{"soul": 100}` are the tag `soul`.
    """
    if is_missing(value):
        return ()
    if isinstance(value, Mapping):
        value = _by_weight(value)
    if isinstance(value, str):
        listed = literal_list(value)
        value = _TAG_BREAK.split(value) if listed is None else listed
    return unique_names(value, "a list of tags, or text with commas")


def unique_names(value: object, wanted: str) -> tuple[str, ...]:
    """Names from a list, each once, in order.

    Raises:
        ValueError: it is no list of text; `wanted` describes in its message what is accepted.
    """
    if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
        raise wrong_kind_error(wanted, value)
    items: Sequence[object] = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    if len(items) > 4096:
        raise ValueError(f"has {len(items):,} items")
    unique: dict[str, str] = {}
    for item in items:
        if name := _read_name(item if isinstance(item, str) else _unweighted(item)):
            unique.setdefault(name.casefold(), name)
    return tuple(unique.values())


def literal_list(value: str) -> list[object] | None:
    """The list that a text holds, as Python or JSON writes it; None if it holds none."""
    listed = value.strip()
    if listed[:1] + listed[-1:] != "[]" or len(listed) > _EXTRA_BYTES:
        return None
    try:
        found = ast.literal_eval(listed)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        # Some writers leave out the quotation marks: `[a, b]`.
        return [item.strip().strip("'\"") for item in _TAG_BREAK.split(listed[1:-1])]
    return list(found)


def _by_weight(value: Mapping[Any, Any]) -> list[Any]:
    """Names by descending weight."""
    try:
        return sorted(value, key=lambda name: -(parse_number(value[name]) or 0.0))
    except ValueError:
        raise wrong_kind_error("a list of tags, or text with commas", value) from None


def _unweighted(item: object) -> object:
    """The name of a tag that has a weight; other items unchanged."""
    if isinstance(item, Mapping):
        return next((item[key] for key in ("name", "tag", "label") if isinstance(item.get(key), str)), item)
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str):
        try:
            parse_number(item[1])
        except ValueError:
            return item
        return item[0]
    return item


def extra_key(name: object) -> str:
    """A key of `extra` as text.

    Raises:
        ValueError: it cannot be stored, or is longer than 200 bytes.
    """
    return checked_text(str(name).replace("\0", ""), _KEY_BYTES)


def storable_key(name: str) -> str:
    """The part of a key that can be stored."""
    return _storable_text(name).encode()[:_KEY_BYTES].decode(errors="ignore")


def check_extra_size(extra: Mapping[str, Any]) -> None:
    """Raise `ValueError`, which names the largest key, if `extra` is longer than 64 KiB as JSON."""
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
    """`value` in a form that JSON and Postgres can hold; parts that they cannot hold become text.

    Args:
        value: anything.
        depth: how deeply `value` is nested.
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
    """A value of `extra` as finite JSON without NUL characters.

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
    if depth > _EXTRA_DEPTH:  # refused later, for its depth
        return value
    if isinstance(value, Mapping):
        return {str(name).replace("\0", ""): _without_nul(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item, depth + 1) for item in value]
    return value


def plain_json(value: object, depth: int = 1) -> object:
    """`value` as finite JSON that can be stored; `depth` says how deeply it is nested.

    Raises:
        ValueError: it cannot be stored, or is nested beyond 16 levels.
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
    raise wrong_kind_error("JSON with integers of 64 bits", value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("is infinite")
    return value


def wrong_kind_error(wanted: str, value: object) -> ValueError:
    """The error for a value of the wrong kind."""
    kind = {dict: "an object", list: "a list", bool: "a boolean"}.get(type(value))
    return ValueError(f"must be {wanted}, not {kind or _quoted(value)}")


def _quoted(value: object) -> str:
    if isinstance(value, int) and abs(value) >= _INT64:
        return "an integer beyond 64 bits"
    shown = value if isinstance(value, str) else str(value)
    return repr(shown if len(shown) <= 40 else shown[:39] + "…")

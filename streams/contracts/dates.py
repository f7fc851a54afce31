"""Readers of dates, years and durations, in the spellings that catalogues use.

As in `cleaning`, a reader returns a clean value, or None for a missing one, and raises `ValueError` for a value that it
cannot understand. docs/metadata.md lists the spellings.
"""

import math
import re
from datetime import date, datetime
from typing import Final

from streams.contracts.cleaning import decimal_text, is_missing, parse_number, plain_scalar, wrong_kind_error

_DATE_FORMS: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y",
    "%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y", "%d. %B %Y", "%d-%b-%Y",
)  # fmt: skip
_MONTH_FORMS: Final = ("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%B %Y", "%b %Y")
_COMPACT_DATE: Final = re.compile(r"\d{8}", re.ASCII)
# MySQL and MusicBrainz write 00 for an unknown month or day.
_UNKNOWN_PARTS: Final = re.compile(r"(\d{4})-(?:00(?:-00)?|(\d\d)-00)", re.ASCII)
_NO_DATE: Final = re.compile(r"0{4}(?:-?00-?00)?(?:[ T]00:00:00(?:\.0+)?)?")
_DOUBT: Final = r"(?:c\.?|ca\.?|circa|about|before|after|~|\u00a9|\u2117)?\s*"
_YEAR_SPAN: Final = re.compile(
    rf"\[?{_DOUBT}(-\d{{1,4}}|\d{{3,4}})(?:'?s|\s*[-\u2013\u2014/]\s*\d{{1,4}})?\s*\??\]?",
    re.IGNORECASE | re.ASCII,
)
_CLOCK: Final = re.compile(r"(?:(\d{1,4}):)?(\d{1,5}):([0-5]?\d(?:[.,]\d+)?)", re.ASCII)
_ISO_DURATION: Final = re.compile(
    r"P(?:(\d{1,5})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:[.,]\d+)?)S)?)?",
    re.IGNORECASE | re.ASCII,
)
_UNITS: Final = re.compile(
    r"(?:(\d{1,5})\s*h(?:ours?|rs?)?\s*)?(?:(\d{1,6})\s*m(?:in(?:utes?|s)?)?\.?\s*)?"
    r"(?:(\d{1,9}(?:[.,]\d+)?)\s*s(?:ec(?:onds?|s)?)?\.?)?",
    re.IGNORECASE | re.ASCII,
)
_MILLISECONDS: Final = re.compile(
    r"(\d{1,12}(?:[.,]\d+)?)\s*(?:ms|msec|milliseconds)", re.IGNORECASE | re.ASCII
)


def parse_year(value: object) -> int | None:
    """A year, from `1722`, `1722.0`, `"c. 1722"`, `"1722-23"`, `"1720s"` (the first year of the span), or any date.

    Year 0 is missing: catalogues write it for "unknown".
    """
    if is_missing(value):
        return None
    value = plain_scalar(value)
    if isinstance(value, str):
        value = value.strip()
        if _NO_DATE.fullmatch(value):
            return None
        if span := _YEAR_SPAN.fullmatch(value):
            return int(span[1]) or None
        # A spreadsheet writes "1722.0" if the column has gaps.
        if (digits := decimal_text(value)) is not None:
            value = float(digits)
    if isinstance(value, str | date):
        try:
            found = partial_date(value)
        except ValueError:
            raise wrong_kind_error("a year", value) from None
        return int(found[:4]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_kind_error("a year", value)
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        raise wrong_kind_error("a year", value)
    return int(value) or None


def parse_duration(value: object) -> float | None:
    """A duration in seconds, from a number or text such as `191.5`, `3:11`, `1:02:03`, `PT3M11S`, `3 min 11 s`."""
    if isinstance(value, str) and (found := _seconds_from_text(value.strip())) is not None:
        return found
    try:
        return parse_number(value)
    except ValueError:
        raise wrong_kind_error("a duration in seconds or m:ss", value) from None


def _seconds_from_text(value: str) -> float | None:
    if clock := _CLOCK.fullmatch(value):
        return _total(None, *clock.groups())
    if found := _MILLISECONDS.fullmatch(value):
        return float(found[1].replace(",", ".")) / 1000
    if (found := _ISO_DURATION.fullmatch(value)) and any(found.groups()):
        return _total(*found.groups())
    if (found := _UNITS.fullmatch(value)) and any(found.groups()):
        return _total(None, *found.groups())
    return None


def _total(days: str | None, hours: str | None, minutes: str | None, rest: str | None) -> float:
    whole = int(days or 0) * 86_400 + int(hours or 0) * 3600 + int(minutes or 0) * 60
    return whole + float((rest or "0").replace(",", "."))


def partial_date(value: object) -> str | None:
    """A date as ISO 8601 text, as precise as it was given: YYYY, YYYY-MM or YYYY-MM-DD.

    With slashes the month comes first, unless that is impossible; with dots the day comes first. A span of years or a
    decade is read as its first year.
    """
    if is_missing(value):
        return None
    value = plain_scalar(value)
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value == 0:
            return None
        if not 0 < value < 10**8:
            raise wrong_kind_error("a date", value)
        value = str(value)
    if not isinstance(value, str):
        raise wrong_kind_error("a date", value)
    return _date_from_text(value.strip())


def _date_from_text(value: str) -> str | None:
    if len(value) > 64:
        raise wrong_kind_error("a date", value)
    if _NO_DATE.fullmatch(value):
        return None
    if re.fullmatch(r"\d{4}(?:\.0)?", value, re.ASCII):
        return value[:4]
    if _COMPACT_DATE.fullmatch(value):
        value = f"{value[:4]}-{value[4:6]}-{value[6:]}"
    if parts := _UNKNOWN_PARTS.fullmatch(value):
        return _date_from_text(f"{parts[1]}-{parts[2]}" if parts[2] else parts[1])
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
    span = _YEAR_SPAN.fullmatch(value)
    # 2009-13-01 looks like a date and is none: it is not a span of years either.
    if span is None or len(span[1]) != 4 or span[1].startswith("-") or int(span[1]) == 0:
        raise wrong_kind_error("a date", value)
    return span[1]

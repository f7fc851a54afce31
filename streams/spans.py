"""Spans of time as people write them: 90s, 30m, 12h, 7d."""

import re
from datetime import timedelta
from typing import Final

_SPAN: Final = re.compile(r"(\d{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_span(text: str) -> timedelta | None:
    """The span of a text; None if it is none."""
    matched = _SPAN.fullmatch(text)
    return None if matched is None else timedelta(**{_UNITS[matched[2]]: int(matched[1])})

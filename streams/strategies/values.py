"""Indexes the distinct values of a metadata field, so that conditions and caps are array operations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.strategies.filters import DATES, NUMBERS, as_number, as_text
from streams.strategies.text import NOBODY
from streams.strategies.types import Filter, Indices, Mask

_DATE_DIGITS: Final = 8
# Dates are compared as spans of days: an unknown month or day may be any.
_NO_DATE: Final = (1, 0)


class ValueIndex:
    """What conditions and caps ask of the values of one field.

    A value's code is its place among the values taken in. Each part is made when it is first asked for, and goes on from
    where it ended when there are more values.

    Args:
        field: A metadata field, or `extra.<key>`.
        values: Distinct values; the list may grow at its end while the index is used.
    """

    def __init__(self, field: str, values: Sequence[Any]) -> None:
        self._field = field
        self._values = values
        self._having: dict[str, list[int]] = {}
        self._read = 0
        self._numbers: npt.NDArray[np.float64] = np.empty(0)
        self._spans: npt.NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
        self._named: dict[str, int] = {}
        self._groups: list[tuple[int, ...]] = []
        self._members: dict[int, list[int]] = {}

    def meeting(self, condition: Filter) -> Mask:
        """Which values meet a condition: bool (n + 1,); the last says whether a track without a value does."""
        found = self._within(condition) if condition.kind == "range" else self._among(condition)
        if condition.kind == "not":
            found = ~found
        return np.append(found, condition.kind == "not")

    def _among(self, condition: Filter) -> Mask:
        """Which values are, or have, one of the condition's values, or all of them: bool (n,)."""
        if self._field in NUMBERS:
            return np.isin(self._as_numbers(), [float(one) for one in condition.values])
        if self._field in DATES:
            spans = [_span(str(one)) for one in condition.values]
            return _any(len(self._values), (self._overlapping(first, last) for first, last in spans))
        each = [self._with_text(str(one)) for one in condition.values]
        if condition.kind == "all":
            return ~_any(len(self._values), (~one for one in each))
        return _any(len(self._values), each)

    def _within(self, condition: Filter) -> Mask:
        low, high = condition.minimum, condition.maximum
        if self._field in DATES:
            first = _span(str(low))[0] if low is not None else 0
            last = _span(str(high))[1] if high is not None else 10**_DATE_DIGITS
            return self._overlapping(first, last)
        numbers = self._as_numbers()
        found = np.isfinite(numbers)
        if low is not None:
            found &= numbers >= float(low)
        if high is not None:
            found &= numbers <= float(high)
        return found

    def _with_text(self, text: str) -> Mask:
        for code in range(self._read, len(self._values)):
            for one in dict.fromkeys(_texts(self._values[code])):
                self._having.setdefault(one, []).append(code)
        self._read = len(self._values)
        found = np.zeros(len(self._values), dtype=np.bool_)
        found[self._having.get(text, [])] = True
        return found

    def _as_numbers(self) -> npt.NDArray[np.float64]:
        new = self._values[len(self._numbers) :]
        if new:
            read = [np.nan if (number := as_number(value)) is None else number for value in new]
            self._numbers = np.append(self._numbers, read)
        return self._numbers

    def _overlapping(self, first: int, last: int) -> Mask:
        new = self._values[len(self._spans) :]
        if new:
            read = [_NO_DATE if value is None else _span(str(value)) for value in new]
            self._spans = np.concatenate([self._spans, np.array(read, dtype=np.int64)])
        known = self._spans[:, 0] <= self._spans[:, 1]
        return known & (self._spans[:, 0] <= last) & (self._spans[:, 1] >= first)

    def grouping(self, codes: npt.NDArray[np.integer], *, stand_ins: bool) -> "Grouping":
        """The groups that a cap counts tracks in, given the code of each one's value, (m,), -1 where there is none.

        Args:
            codes: Of the tracks.
            stand_ins: Whether "Anonymous" and other words for no composer are one composer; else they are none.
        """
        for code in range(len(self._groups), len(self._values)):
            groups = tuple(dict.fromkeys(map(self._group_of, _texts(self._values[code]))))
            self._groups.append(groups)
            for group in groups:
                self._members.setdefault(group, []).append(code)
        nobody = {self._named[name] for name in NOBODY if name in self._named}
        if self._field != "composer" or not nobody:
            return Grouping(codes, self._groups, self._members)
        one: tuple[int, ...] = (min(nobody),) if stand_ins else ()
        groups_of = [one if not nobody.isdisjoint(each) else each for each in self._groups]
        members = {group: held for group, held in self._members.items() if group not in nobody}
        if stand_ins:
            members[min(nobody)] = [code for group in nobody for code in self._members[group]]
        return Grouping(codes, groups_of, members)

    def _group_of(self, text: str) -> int:
        return self._named.setdefault(text, len(self._named))


class Grouping:
    """The groups that a cap counts in: one for each value; a list of values puts a track in several.

    Args:
        codes: The code of each track's value, (m,), -1 where there is none.
        groups: Of each code.
        members: The codes in each group.
    """

    def __init__(
        self,
        codes: npt.NDArray[np.integer],
        groups: Sequence[tuple[int, ...]],
        members: Mapping[int, Sequence[int]],
    ) -> None:
        self._codes = codes
        self._groups = groups
        self._members = members

    def of(self, place: int) -> tuple[int, ...]:
        """The groups of a track, each once; none where nothing is known."""
        code = self._codes[place]
        return () if code < 0 else self._groups[code]

    def members(self, groups: Iterable[int]) -> Mask:
        """Which tracks are in one of these groups: bool (m,)."""
        inside = np.zeros(len(self._groups) + 1, dtype=np.bool_)  # the last is of no value
        for group in groups:
            inside[self._members[group]] = True
        # Faster than an index by int32.
        return inside.take(self._codes)

    def positions(self, places: Indices) -> dict[int, list[int]]:
        """Where in `places` the tracks of each group stand."""
        found: dict[int, list[int]] = {}
        for position, code in enumerate(self._codes.take(places).tolist()):
            if code >= 0:
                for group in self._groups[code]:
                    found.setdefault(group, []).append(position)
        return found


def _texts(value: Any) -> list[str]:
    """The texts that a value holds, as they are compared."""
    held = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    return [text for one in held if (text := as_text(one)) is not None]


def _any(count: int, masks: Iterable[Mask]) -> Mask:
    found = np.zeros(count, dtype=np.bool_)
    for one in masks:
        found |= one
    return found


def _span(date: str) -> tuple[int, int]:
    """The first and the last day that a date may mean, as numbers of eight digits; an empty span for what is no date."""
    digits = date.replace("-", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DATE_DIGITS):
        return _NO_DATE
    return int(digits.ljust(_DATE_DIGITS, "0")), int(digits.ljust(_DATE_DIGITS, "9"))

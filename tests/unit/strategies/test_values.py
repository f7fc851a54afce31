"""Conditions and caps as array operations, held against a plain look at each value."""

from typing import Any

import numpy as np
import pytest

from streams.strategies.filters import parse_filters
from streams.strategies.values import ValueIndex

pytestmark = pytest.mark.unit


def meeting(field: str, values: list[Any], condition: Any) -> list[bool]:
    """Which values meet a condition, and, last, whether a track without one does."""
    (asked,) = parse_filters({field: condition})
    return ValueIndex(field, values).meeting(asked).tolist()


@pytest.mark.parametrize(
    ("field", "values", "condition", "expected"),
    [
        ("composer", ["Bach", "Händel", "BACH"], "bach", [1, 0, 1, 0]),
        ("composer", ["Bach", "Händel"], ["händel", "bach"], [1, 1, 0]),
        ("composer", ["Bach", "Händel"], {"not": ["Bach"]}, [0, 1, 1]),
        ("tags", [("slow", "sad"), ("sad",), ()], {"all": ["sad", "slow"]}, [1, 0, 0, 0]),
        ("tags", [("slow",), ("sad",), ()], ["sad", "slow"], [1, 1, 0, 0]),
        ("year_composed", [1700, 1750, None], {"min": 1750}, [0, 1, 0, 0]),
        ("year_composed", [1700, 1750], {"max": 1700}, [1, 0, 0]),
        ("year_composed", [1700, 1750], 1750, [0, 1, 0]),
        ("recording_date", ["1999", "2000-03", "2000-03-05", None], "2000", [0, 1, 1, 0, 0]),
        ("recording_date", ["1999", "2000-03", "2000-03-05"], {"min": "2000-03-04"}, [0, 1, 1, 0]),
        ("recording_date", ["1999", "2000-03"], {"max": "1999-05-01"}, [1, 0, 0]),
        ("extra.mood", ["calm", "wild"], "Calm", [1, 0, 0]),
    ],
)
def test_a_condition_is_met_by_the_values_that_it_means(
    field: str, values: list[Any], condition: Any, expected: list[int]
) -> None:
    """Text without case, dates at the precision that both have, lists by what they have; nothing known meets only `not`."""
    assert meeting(field, values, condition) == [bool(one) for one in expected]


@pytest.mark.parametrize(
    ("field", "first", "more", "condition"),
    [
        ("composer", ["Bach"], ["Händel", "bach"], "bach"),
        ("year_composed", [1700], [1750, None], {"min": 1700}),
        ("recording_date", ["1999"], ["2000", None], {"min": "1999"}),
    ],
)
def test_values_that_come_later_are_taken_in(
    field: str, first: list[Any], more: list[Any], condition: Any
) -> None:
    """An index that has been used answers, after more values, as a new one would."""
    (asked,) = parse_filters({field: condition})
    values = list(first)
    index = ValueIndex(field, values)
    index.meeting(asked)
    values += more
    assert index.meeting(asked).tolist() == ValueIndex(field, values).meeting(asked).tolist()


def grouped(field: str, values: list[Any], *, stand_ins: bool = False) -> tuple[list[tuple[int, ...]], Any]:
    """The groups of tracks that have each value in turn, then of one that has none; and the grouping."""
    codes = np.array([*range(len(values)), -1])
    grouping = ValueIndex(field, values).grouping(codes, stand_ins=stand_ins)
    return [grouping.of(place) for place in range(len(codes))], grouping


def test_a_list_puts_a_track_in_several_groups() -> None:
    """Names that differ in case are one group; no value is in none."""
    groups, grouping = grouped("artists", [("A", "B"), ("b",), ("a", "A")])
    (a, b), others = groups[0], groups[1:]
    assert others == [(b,), (a,), ()]
    assert grouping.members([a]).tolist() == [True, False, True, False]
    assert grouping.members([b]).tolist() == [True, True, False, False]
    assert grouping.positions(np.array([2, 3, 0])) == {a: [0, 2], b: [2]}


@pytest.mark.parametrize(("stand_ins", "capped"), [(False, 0), (True, 1)])
def test_words_for_no_composer_are_one_composer_or_none(stand_ins: bool, capped: int) -> None:
    """No cap holds for "Anonymous" and "Traditional" unless it is asked for; then they count together."""
    groups, grouping = grouped("composer", ["Anonymous", "Bach", "Traditional"], stand_ins=stand_ins)
    assert groups[0] == groups[2]
    assert len(groups[0]) == capped
    assert groups[1] not in (groups[0], ())
    if stand_ins:
        assert grouping.members(groups[0]).tolist() == [True, False, True, False]

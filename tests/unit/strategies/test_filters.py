"""Filters on metadata: what they accept, what they match, what they refuse."""

from typing import Any

import pytest

from streams.contracts.dates import partial_date
from streams.contracts.metadata import TrackMetadata
from streams.strategies import CandidateColumns, CandidateSource, InvalidQuery, filters
from tests.unit.strategies.helpers import candidates

pytestmark = pytest.mark.unit

ROWS: list[dict[str, Any]] = [
    {
        "composer": "Bach",
        "year_composed": 1722,
        "tags": ["piano", "fugue"],
        "recording_date": "2009-09-16",
        "artist": "Anna",
        "artists": ["Anna"],
    },
    {
        "composer": "bach ",
        "year_composed": 1740,
        "tags": ["organ"],
        "recording_date": "2009",
        "artist": "Bert; Carla",
        "artists": ["Bert", "Carla"],
    },
    {
        "composer": "Cage",
        "year_composed": None,
        "tags": [],
        "recording_date": "2010-01",
        "artist": "Bert",
        "artists": ["Bert"],
    },
    {"extra": {"metre": "2/4", "notes": 84, "live": True}},
]


def matching(wanted: dict[str, Any]) -> list[int]:
    """Rows that meet every filter."""
    conditions = filters.parse_filters(wanted)
    pool = candidates([0.0] * len(ROWS), ROWS)
    table = {**pool.metadata, **CandidateColumns(ROWS, (c.field for c in conditions))}
    object.__setattr__(pool, "metadata", table)
    source = CandidateSource(pool)
    return [i for i in range(len(ROWS)) if all(source.meeting(c)[i] for c in conditions)]


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"composer": "BACH"}, [0, 1]),
        ({"composer": ["bach", "cage"]}, [0, 1, 2]),
        ({"composer": {"not": "bach"}}, [2, 3]),
        ({"tags": "Piano"}, [0]),
        ({"tags": ["piano", "organ"]}, [0, 1]),
        ({"tags": {"all": ["piano", "fugue"]}}, [0]),
        ({"tags": {"any": ["piano", "organ"], "not": ["fugue"]}}, [1]),
        ({"year_composed": 1722}, [0]),
        ({"year_composed": "1722"}, [0]),
        ({"year_composed": {"min": 1722, "max": 1740}}, [0, 1]),
        ({"year_composed": {"min": 1723}}, [1]),
        ({"year_composed": {"max": 1722.5}}, [0]),
        ({"recording_date": {"min": "2009-10"}}, [1, 2]),
        ({"recording_date": {"max": "2009"}}, [0, 1]),
        ({"recording_date": {"min": "2010"}}, [2]),
        ({"recording_date": {"min": "2009-09-16", "max": "2009-09"}}, [0, 1]),
        ({"recording_date": "2009"}, [0, 1]),
        ({"recording_date": 2009}, [0, 1]),
        ({"recording_date": "2009-09"}, [0, 1]),
        ({"recording_date": "2009-10"}, [1]),
        ({"recording_date": ["2009-09-16", "2010-01-31"]}, [0, 1, 2]),
        ({"recording_date": {"not": ["2009-09"]}}, [2, 3]),
        ({"recording_date": {"any": "2009", "max": "2009-08"}}, [1]),
        ({"extra.metre": "2/4"}, [3]),
        ({"extra.notes": {"min": 80}}, [3]),
        ({"extra.live": True}, [3]),
        ({"extra.nothing": "x"}, []),
        ({"album": "x"}, []),
        ({"artist": "Bert"}, [1, 2]),
        ({"artists": ["anna", "carla"]}, [0, 1]),
        ({"artist": {"all": ["Bert", "Carla"]}}, [1]),
        ({"artist": {"not": "Carla"}}, [0, 2, 3]),
        ({"composer": "bach", "year_composed": {"min": 1730}}, [1]),
    ],
)
def test_what_filters_match(wanted: dict[str, Any], rows: list[int]) -> None:
    """Equality, sets, ranges, tags, and everything together; what is unknown matches nothing but `not`."""
    assert matching(wanted) == rows


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"colour": "red"}, "filters.colour: is not a metadata field"),
        ({"extra.": "x"}, "is not a metadata field"),
        ({"composer": []}, "an empty list matches nothing"),
        ({"composer": None}, "must be text"),
        ({"composer": ""}, "is blank, or a word for no value"),
        ({"composer": ["a", "\x1f"]}, "is blank, or a word for no value"),
        ({"composer": {"min": "a"}}, "has no range"),
        ({"composer": {"all": ["a"]}}, "all is for lists"),
        ({"composer": {"like": "a"}}, "must hold any, all, not, min or max"),
        ({"composer": {}}, "must hold any"),
        ({"year_composed": "old"}, "must be a number"),
        ({"year_composed": {"min": 5, "max": 4}}, "min is above max"),
        ({"year_composed": {"min": None}}, "needs min or max"),
        ({"year_composed": float("nan")}, "must be a number"),
        ({"tags": [["a"]]}, "must be text"),
        ({"recording_date": "banana"}, "must be a date"),
        ({"recording_date": ["2009", "2009-13"]}, "must be a date"),
        ({"recording_date": {"min": "banana"}}, "filters.recording_date.min: must be a date"),
        ({"recording_date": {"min": "2009", "not": ["x"]}}, "filters.recording_date.not: must be a date"),
        ({"extra.bpm": {"min": 3, "max": "fast"}}, "filters.extra.bpm.max: must be a number"),
        ({"recording_date": "16.09.2009"}, "must be a date"),
        ({"recording_date": ""}, "must be a date"),
        ({"recording_date": {"min": "2010", "max": "2009-12"}}, "min is above max"),
        ({"recording_date": {"min": None}}, "must hold any"),
    ],
)
def test_what_filters_refuse(wanted: dict[str, Any], said: str) -> None:
    """One line that names the field."""
    with pytest.raises(InvalidQuery, match=said) as refused:
        filters.parse_filters(wanted)
    assert refused.value.field.startswith("filters.")


def test_dates_are_read_as_the_caller_writes_them() -> None:
    """In every form in which tracks may have them; what is no date, or missing, is refused."""
    (condition,) = filters.parse_filters({"recording_date": {"min": "16.09.2009", "max": 2010}}, partial_date)
    assert (condition.minimum, condition.maximum) == ("2009-09-16", "2010")
    (equal,) = filters.parse_filters({"recording_date": ["16.09.2009", "September 2009"]}, partial_date)
    assert equal.values == {"2009-09-16", "2009-09"}
    for wrong in ("banana", "n/a", True):
        with pytest.raises(InvalidQuery, match=r"filters.recording_date: must be a date"):
            filters.parse_filters({"recording_date": wrong}, partial_date)


def test_every_metadata_field_can_be_filtered_on() -> None:
    """The fields here are those of the event contract, each with its place in the order of relaxation."""
    assert set(TrackMetadata.model_fields) - {"extra"} == filters.FIELDS
    assert len(filters.RELAXATION) == len(filters.FIELDS)


def test_extra_fields_are_given_up_first_and_not_filters_never() -> None:
    """The order in which filters are relaxed does not depend on the order in which they are asked."""
    wanted = filters.parse_filters({"composer": "a", "extra.z": 1, "era": {"not": "b"}, "form": "c"})
    assert [c.field for c in filters.relaxation_order(wanted)] == ["extra.z", "form", "composer"]

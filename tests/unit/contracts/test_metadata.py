"""Metadata as catalogues really spell it."""

import math
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.contracts import TrackMetadata

pytestmark = pytest.mark.unit
# The first draw of text builds Unicode tables, which takes a second.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    "missing",
    ["", "  ", "nan", "NaN", "N/A", "n/a", "null", "None", None, math.nan, np.float32("nan"), "<NA>", "#N/A"],
)
def test_every_way_to_write_nothing_is_a_missing_value(missing: object) -> None:
    """Missing values of any spelling become absent, in known keys and in extra ones."""
    read = TrackMetadata.model_validate(
        {"title": missing, "year_composed": missing, "duration_seconds": missing, "recording_date": missing}
        | {"tags": missing, "popular_rank": missing, "label": missing, "extra": missing}
    )
    assert read == TrackMetadata()
    assert read.present() == {}


@pytest.mark.parametrize(
    ("given_date", "expected"),
    [
        ("2009-09-16", "2009-09-16"),
        ("20090916", "2009-09-16"),
        (20090916, "2009-09-16"),
        ("16.09.2009", "2009-09-16"),
        ("09/16/2009", "2009-09-16"),
        ("03/04/2009", "2009-03-04"),
        ("16/09/2009", "2009-09-16"),
        ("September 16, 2009", "2009-09-16"),
        ("16 Sep 2009", "2009-09-16"),
        ("2009-09-16T23:30:00+02:00", "2009-09-16"),
        ("2009-09-16 10:00:00", "2009-09-16"),
        (datetime(2009, 9, 16, 10), "2009-09-16"),  # noqa: DTZ001 - catalogues hold naive times
        (date(2009, 9, 16), "2009-09-16"),
        (np.datetime64("2009-09-16"), "2009-09-16"),
        ("2009-09", "2009-09"),
        ("09/2009", "2009-09"),
        ("Sep 2009", "2009-09"),
        ("20090900", "2009-09"),
        ("20090000", "2009"),
        ("2009", "2009"),
        (2009, "2009"),
        (2009.0, "2009"),
        ("2009.0", "2009"),
    ],
)
def test_dates_are_read_in_many_forms_and_no_more_precisely_than_given(
    given_date: object, expected: str
) -> None:
    """A date becomes ISO 8601 text of the precision that the catalogue has."""
    assert TrackMetadata.model_validate({"recording_date": given_date}).recording_date == expected


@pytest.mark.parametrize(
    ("given_year", "expected"),
    [
        (1722, 1722), (1722.0, 1722), ("1722", 1722), ("1722.0", 1722), ("c. 1722", 1722), ("ca. 1722", 1722),
        ("1722-23", 1722), ("1722/1723", 1722), ("1722?", 1722), ("1722-03-01", 1722), ("01.03.1722", 1722), (-128, -128),
    ],
)  # fmt: skip
def test_years_are_read_from_numbers_spans_and_dates(given_year: object, expected: int) -> None:
    """A span of years counts as its first; the usual signs of doubt are passed over."""
    assert TrackMetadata.model_validate({"year_composed": given_year}).year_composed == expected


@pytest.mark.parametrize(
    ("given_duration", "expected"),
    [
        (191, 191.0),
        ("191.5", 191.5),
        ("3:11", 191.0),
        ("03:11.5", 191.5),
        ("1:02:03", 3723.0),
        ("0:59", 59.0),
        (0, 0.0),
    ],
)
def test_durations_are_seconds_or_clock_times(given_duration: object, expected: float) -> None:
    """Durations are read as seconds, m:ss or h:mm:ss."""
    assert TrackMetadata.model_validate({"duration_seconds": given_duration}).duration_seconds == expected


@pytest.mark.parametrize(
    ("given_tags", "expected"),
    [
        ("baroque, piano;Piano , ,fugue", ("baroque", "piano", "fugue")),
        (["b", "a", "B", None, "", "nan", 3], ("b", "a", "3")),
        ("['slow', \"sad\"]", ("slow", "sad")),
        ("[]", ()),
        (("x",), ("x",)),
        ({"b", "a"}, ("a", "b")),
        (np.array(["x", "y"]), ("x", "y")),
        (["comma, inside"], ("comma, inside",)),
    ],
)
def test_tags_are_split_stripped_and_unique_in_their_order(
    given_tags: object, expected: tuple[str, ...]
) -> None:
    """Tags come as lists or text; the first spelling of each stays, in order."""
    assert TrackMetadata.model_validate({"tags": given_tags}).tags == expected


def test_numbers_stand_for_their_digits_in_text() -> None:
    """A spreadsheet's number in a text column becomes its digits; an integral float loses its point."""
    read = TrackMetadata.model_validate({"opus": 27.0, "movement": 3, "title": 1812, "popular_rank": "12"})
    assert (read.opus, read.movement, read.title, read.popular_rank) == ("27", "3", "1812", 12.0)


def test_unknown_keys_are_kept_in_extra_with_plain_json_values() -> None:
    """Unknown keys land in extra beside what extra already held; NaN inside becomes null."""
    read = TrackMetadata.model_validate(
        {
            "filename": "x.wav",
            "extra": {"a": 1},
            "nested": {"x": [math.nan, np.int64(3)]},
            "on": date(2020, 1, 2),
        }
    )
    assert read.extra == {"a": 1, "filename": "x.wav", "nested": {"x": [None, 3]}, "on": "2020-01-02"}


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"title": {"de": "Fuge"}}, "title"),
        ({"title": ["a"]}, "title"),
        ({"composer": True}, "composer"),
        ({"duration_seconds": "abc"}, "duration_seconds"),
        ({"duration_seconds": -1}, "duration_seconds"),
        ({"duration_seconds": "3:75"}, "duration_seconds"),
        ({"duration_seconds": math.inf}, "duration_seconds"),
        ({"year_composed": 1850.5}, "year_composed"),
        ({"year_composed": True}, "year_composed"),
        ({"year_composed": 20_000}, "year_composed"),
        ({"recording_date": "soon"}, "recording_date"),
        ({"recording_date": "2009-02-30"}, "recording_date"),
        ({"recording_date": []}, "recording_date"),
        ({"tags": [{"a": 1}]}, "tags"),
        ({"tags": 3.5j}, "tags"),
        ({"tags": [f"t{i}" for i in range(300)]}, "tags"),
        ({"popular_rank": "first"}, "popular_rank"),
        ({"popular_rank": 10**400}, "popular_rank"),
        ({"label": math.inf}, "label"),
        ({"label": {"deep": {"x\0": 1}}}, "label"),
        ({"label": "\ud800"}, "label"),
        ({"title": "a\0b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"title": "x" * 2_001}, "title"),
        ({"composer": "x" * 601}, "composer"),
        ({"extra": [1]}, "extra"),
        ({"notes": "x" * 70_000}, "notes"),
        ({"notes": [10**30]}, "notes"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(metadata: dict[str, object], named: str) -> None:
    """A value of a type that a key cannot mean is an error that names the key."""
    with pytest.raises(ValidationError) as caught:
        TrackMetadata.model_validate(metadata)
    assert named in str(caught.value).split("\n", 1)[1]


def test_endless_nesting_in_extra_is_refused() -> None:
    """Extra is at most 16 levels deep."""
    value: object = 1
    for _ in range(17):
        value = [value]
    with pytest.raises(ValidationError, match="nested deeper"):
        TrackMetadata.model_validate({"x": value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@patient
@given(
    st.dictionaries(st.sampled_from([*TrackMetadata.model_fields, "label", "nan"]), json_values, max_size=6)
)
def test_any_json_is_either_read_or_refused_and_reading_again_changes_nothing(
    metadata: dict[str, object],
) -> None:
    """Whatever JSON a catalogue holds, it is refused or becomes metadata that reads back the same."""
    try:
        read = TrackMetadata.model_validate(metadata)
    except ValidationError:
        return
    assert TrackMetadata.model_validate(read.present()) == read


@patient
@given(st.text(max_size=30))
def test_any_text_is_a_date_or_refused(text: str) -> None:
    """A date that is accepted is ISO 8601 of year, month or day."""
    try:
        found = TrackMetadata.model_validate({"recording_date": text}).recording_date
    except ValidationError:
        return
    if found is not None:
        assert date.fromisoformat((found + "-01-01")[:10] if len(found) < 8 else found)

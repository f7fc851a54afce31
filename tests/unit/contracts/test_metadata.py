"""Metadata as catalogues really spell it."""

import math
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.contracts import TrackMetadata
from streams.contracts.metadata import STRICT

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
        ({"title": ["a", "b"]}, "title"),
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
        ({"label": "\ud800"}, "label"),
        ({"title": "\ud800"}, "title"),
        ({"title": "x" * 2_001}, "title"),
        ({"composer": "x" * 601}, "composer"),
        ({"extra": [1]}, "extra"),
        ({"notes": [10**30]}, "notes"),
    ],
)
def test_what_cannot_be_understood_stays_in_extra_raw_or_is_refused_by_name(
    metadata: dict[str, object], named: str
) -> None:
    """A value that its key cannot mean costs only itself, unless reading is strict: then it is named and refused."""
    good = {"era": "Baroque"}
    read = TrackMetadata.model_validate(good | metadata)
    assert (read.era, read.unread) == ("Baroque", (named,))
    assert getattr(read, named, None) in (None, (), {"raw": read.extra["raw"]})
    assert TrackMetadata.model_validate(read.present()) == read
    with pytest.raises(ValidationError) as caught:
        TrackMetadata.model_validate(good | metadata, context={STRICT: True})
    assert named in str(caught.value).split("\n", 1)[1]


def test_a_cell_that_cannot_be_read_stays_as_it_was() -> None:
    """What JSON can hold is kept as it stands, the rest as text."""
    read = TrackMetadata.model_validate(
        {
            "duration_seconds": "abc",
            "year_composed": 1850.5,
            "tags": [{"a": 1}],
            "label": math.inf,
            "n": 10**30,
        }
    )
    assert read.extra["raw"] == {
        "duration_seconds": "abc",
        "year_composed": 1850.5,
        "tags": [{"a": 1}],
        "label": "inf",
        "n": str(10**30),
    }


def test_cells_that_were_kept_before_are_kept_with_new_ones() -> None:
    """A second reading adds to `extra.raw`; a key of that name that is no object is not lost."""
    read = TrackMetadata.model_validate({"extra": {"raw": {"opus": True}}, "title": {}})
    assert read.extra["raw"] == {"opus": True, "title": {}}
    assert TrackMetadata.model_validate({"raw": "x", "title": {}}).extra["raw"] == {"raw": "x", "title": {}}


def test_nul_is_taken_out_of_text() -> None:
    """Postgres holds no NUL: it is taken out of fields, tags and extra, keys included."""
    read = TrackMetadata.model_validate(
        {"title": "a\0b", "opus": "\0", "tags": ["x\0"], "label": {"deep": {"x\0": ["\0y"]}}, "k\0": 1}
    )
    assert (read.title, read.opus, read.tags) == ("ab", None, ("x",))
    assert read.extra == {"label": {"deep": {"x": ["y"]}}, "k": 1}


@pytest.mark.parametrize("metadata", [{"notes": "x" * 70_000}, {"a": 1, "extra": {"notes": "y" * 66_000}}])
def test_more_than_extra_can_hold_is_refused_and_the_largest_key_named(metadata: dict[str, object]) -> None:
    """There is no room to keep what is larger than all of extra."""
    with pytest.raises(ValidationError, match="at most 65,536 are kept; notes is the largest"):
        TrackMetadata.model_validate(metadata)


def test_endless_nesting_is_kept_as_text_from_where_it_is_too_deep() -> None:
    """Extra is at most 16 levels deep."""
    value: object = 1
    for _ in range(40):
        value = [value]
    read = TrackMetadata.model_validate({"x": value})
    assert read.unread == ("x",)
    assert TrackMetadata.model_validate(read.present()) == read


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


@pytest.mark.parametrize("artists", [[], [""], None, 7, {}])
def test_artists_that_name_nobody_are_those_of_the_credit(artists: object) -> None:
    """A list of nobody, or what is no list, leaves the credit to say who it is, and reads back the same."""
    read = TrackMetadata.model_validate({"artist": "a; b", "artists": artists})
    assert read.artists == ("a", "b")
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

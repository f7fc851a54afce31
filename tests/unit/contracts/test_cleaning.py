"""Readers of single metadata values, each by itself."""

from datetime import date
from typing import Any

import numpy as np
import orjson
import pytest

from streams.contracts import cleaning

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("191.5", "191.5"),
        ("191,5", "191.5"),
        ("1,2345", "1.2345"),
        ("1.234,5", "1234.5"),
        ("1.234.567,5", "1234567.5"),
        ("1,234.5", "1234.5"),
        ("1,234,567", "1234567"),
        ("-1e-7", "-1e-7"),
        (".5", ".5"),
        ("1,234", None),
        ("1.2.3", None),
        ("1,2,3", None),
        ("1e9999", None),
        ("12 s", None),
        ("٣", "٣"),
    ],
)
def test_separators_are_understood_where_they_can_mean_one_thing(written: str, number: str | None) -> None:
    """A decimal comma and thousands separators are read; what may be either is no number."""
    assert cleaning.decimal_text(written) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  Bourrée\0 ", "Bourrée"),
        (27.0, "27"),
        (2.5, "2.5"),
        (2.0**60, repr(2.0**60)),
        (np.int64(3), "3"),
        (["only"], "only"),
        ([["nested"]], "nested"),
        (np.datetime64("NaT"), None),
        ("#N/A", None),
        ("na na na na na na", "na na na na na na"),
    ],
)
def test_text_is_read_from_what_spreadsheets_hold(value: object, text: str | None) -> None:
    """A number becomes its digits, a list of one its only item, a spelling of "missing" None."""
    assert cleaning.text_reader(100)(value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "must be text, not a boolean"),
        (["two", "items"], "must be text, not a list"),
        ({"a": 1}, "must be text, not an object"),
        (2**63, "must be text, not an integer beyond 64 bits"),
        (float("inf"), "is infinite"),
        ("é" * 51, "is 102 bytes long; at most 100 are kept"),
        ("\ud800", "contains a lone surrogate, which is not valid Unicode text"),
    ],
)
def test_what_is_no_text_is_refused_with_what_it_is(value: object, message: str) -> None:
    """Length counts in bytes of UTF-8, as Postgres and Kafka count it."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        cleaning.text_reader(100)(value)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"soul": 10, "jazz": "100", "blues": None}, ("jazz", "soul", "blues")),
        ([["soul", "100"], ("jazz", 7)], ("soul", "jazz")),
        ([{"name": "soul", "count": 100}, {"label": "jazz"}], ("soul", "jazz")),
        ("[soul, 'jazz']", ("soul", "jazz")),
        ("[soul; jazz]", ("soul", "jazz")),
        ('["r&b, soul", "Jazz", "jazz"]', ("r&b, soul", "Jazz")),
        (["soul", 3.0, None, "n/a"], ("soul", "3")),
        ("(not, a list)", ("(not", "a list)")),
    ],
)
def test_tags_lose_their_weights_and_keep_their_order(tags: object, expected: tuple[str, ...]) -> None:
    """An object lists its tags by weight; whatever else has weights keeps its own order."""
    assert cleaning.parse_tags(tags) == expected


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"soul": "much"}, "must be a list of tags, or text with commas, not an object"),
        ([["soul", "much"]], "must be text, not a list"),
        (7, "must be a list of tags, or text with commas, not '7'"),
        (["x"] * 4097, "has 4,097 items"),
    ],
)
def test_what_holds_no_tags_is_refused(tags: object, message: str) -> None:
    """An object whose values are no weights, a number, and more than a track can have."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        cleaning.parse_tags(tags)


def test_a_list_as_text_is_read_without_running_it() -> None:
    """Calls in it are no literal: they stay text."""
    assert cleaning.literal_list("[__import__('os').getcwd()]") == ["__import__('os').getcwd()"]
    assert cleaning.literal_list("[" * 5_000 + "]" * 5_000) is not None
    assert cleaning.literal_list("[" + "1," * 40_000 + "]") is None, "longer than what is kept"
    assert cleaning.literal_list("Op. 1 [live]") is None


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_json_is_kept_to_sixteen_levels() -> None:
    """What is deeper is refused, and becomes text where it is to be kept all the same."""
    assert cleaning.plain_json(nested(15)) == nested(15)
    with pytest.raises(ValueError, match="deeper than 16 levels"):
        cleaning.plain_json(nested(16))
    kept = orjson.loads(orjson.dumps(cleaning.as_stored(nested(40), depth=1)))
    for _ in range(15):
        (kept,) = kept
    assert kept == str(nested(25))


def test_what_contains_itself_is_kept_as_text() -> None:
    """A list in itself ends at the depth that is kept."""
    endless: list[Any] = []
    endless.append(endless)
    kept = orjson.dumps(cleaning.as_stored(endless))
    assert kept.count(b"[[[") >= 1
    assert b"..." in kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), None),
        (date(1999, 12, 31), "1999-12-31"),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (2**64 - 1, 2**64 - 1),
        ({1: {"x"}}, {"1": ["x"]}),
        (float("inf"), "inf"),
        (2**64, str(2**64)),
        (b"\xff", "b'\\xff'"),
        ("a\0b\ud800", "ab?"),
    ],
)
def test_what_cannot_be_stored_becomes_text(value: object, kept: object) -> None:
    """Whatever a producer puts into a cell, JSON and Postgres can hold what is kept of it."""
    assert cleaning.as_stored(value) == kept


def test_a_key_is_cut_between_characters() -> None:
    """Two hundred bytes of UTF-8, and no half of a character."""
    assert cleaning.storable_key("é" * 150) == "é" * 100
    assert cleaning.storable_key("x" + "é" * 150) == "x" + "é" * 99
    with pytest.raises(ValueError, match="at most 200 are kept"):
        cleaning.extra_key("é" * 101)


def test_nul_is_taken_out_of_keys_and_values_alike() -> None:
    """At every level, as Postgres holds it nowhere."""
    assert cleaning.extra_json({"a\0": ["b\0", {"c": "\0"}]}) == {"a": ["b", {"c": ""}]}


def test_too_large_extra_names_its_largest_key_raw_ones_among_them() -> None:
    """Cells that could not be read lie under `raw`: their own names are what helps."""
    cleaning.check_extra_size({"small": "x" * 65_000})
    with pytest.raises(ValueError, match=r"^extra: is 66,0\d\d bytes long; .*; lyrics is the largest$"):
        cleaning.check_extra_size({"note": "x" * 1_000, "raw": {"lyrics": "y" * 65_000}})


def test_what_is_quoted_in_an_error_is_short() -> None:
    """A value of megabytes is not repeated to the producer."""
    assert str(cleaning.wrong_kind_error("a number", "x" * 10**6)) == f"must be a number, not '{'x' * 39}…'"

"""Joining rows to files by their names."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.producers.joining import AmbiguousName, RowIndex, stem_of

pytestmark = pytest.mark.unit
parts = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=6, unique=True), parts)
def test_a_row_is_always_found_by_its_own_path(rows: list[tuple[str, str]], above: str) -> None:
    """Whatever other rows there are, and in whatever folder the files lie."""
    names = [f"{folder}/{name}" for folder, name in rows]
    distinct = {unicodedata.normalize("NFC", name) for name in names}
    if len(distinct) < len(names):
        return
    index = RowIndex(enumerate(f"{name}.mp3" for name in names))
    assert index.match([f"{above}/{name}.npy" for name in names]) == list(range(len(names)))


@pytest.mark.parametrize("name", ["a.b/Song.MP3.npy", "Song.wav", "x\\Song.flac", "Song", "./Song.OPUS"])
def test_a_stem_is_a_name_without_folders_and_suffixes(name: str) -> None:
    """Of audio and arrays, in any case."""
    assert stem_of(name) == "Song"


def test_a_row_goes_to_the_file_that_shares_more_folders() -> None:
    """The other file has no row; with as many folders both are ambiguous, and both are named."""
    index = RowIndex([(0, "A/x.wav")])
    assert index.match(["A/x.npy", "B/x.npy"]) == [0, None]
    assert index.match(["C/x.npy", "B/x.npy"]) == [AmbiguousName(("C/x.npy", "B/x.npy"))] * 2


def test_a_files_full_name_tells_two_formats_apart() -> None:
    """`a.mp3.npy` was made of the MP3."""
    index = RowIndex([(0, "a.wav"), (1, "a.mp3")])
    assert index.match(["a.mp3.npy"]) == [1]
    assert index.match(["a.npy"]) == [AmbiguousName(("row a.wav", "row a.mp3"))]


@pytest.mark.parametrize(
    ("row", "file"), [("2", "000002.npy"), ("2.0", "2.npy"), ("000002", "2.npy"), ("7", "x/07.wav")]
)
def test_numbers_are_compared_as_numbers(row: str, file: str) -> None:
    """Leading zeros and a float's point say nothing."""
    assert RowIndex([(0, row)]).match([file]) == [0]


def test_a_name_that_is_equal_comes_before_a_number_that_is() -> None:
    """`02` and `2` are two rows."""
    assert RowIndex([(0, "2"), (1, "02")]).match(["02.npy", "2.npy"]) == [1, 0]
    assert isinstance(RowIndex([(0, "2"), (1, "02")]).find("002"), AmbiguousName)

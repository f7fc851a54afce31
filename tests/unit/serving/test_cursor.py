"""Cursors: they come back as they were made, and nothing else passes for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import cursor
from store.reads import Place, TrackFilter

pytestmark = pytest.mark.unit

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
places = st.builds(Place, texts, st.integers(0, 20))
filters = st.builds(TrackFilter, *(st.none() | texts for _ in range(4)))


@given(after=places, wanted=filters)
@settings(deadline=None)
def test_decodes_to_what_it_was_made_from(after: Place, wanted: TrackFilter) -> None:
    """A cursor gives back its place under the filters it was made under, and is safe in a URL."""
    made = cursor.encode_cursor(after, wanted, "default")
    assert cursor.decode_cursor(made, wanted, "default") == after
    assert made.isascii()
    assert not set(made) & set("+/=&?# ")


@given(after=places, wanted=filters, other=filters)
@settings(deadline=None)
def test_belongs_to_its_filters(after: Place, wanted: TrackFilter, other: TrackFilter) -> None:
    """Under other filters a cursor is refused."""
    made = cursor.encode_cursor(after, wanted, "default")
    if other != wanted:
        with pytest.raises(cursor.InvalidCursorError, match="other filters"):
            cursor.decode_cursor(made, other, "default")


@given(after=places, wanted=filters)
@settings(deadline=None)
def test_belongs_to_its_space(after: Place, wanted: TrackFilter) -> None:
    """A listing of another space holds other tracks: it refuses the cursor."""
    made = cursor.encode_cursor(after, wanted, "melody")
    assert cursor.decode_cursor(made, wanted, "melody") == after
    with pytest.raises(cursor.InvalidCursorError, match="another space"):
        cursor.decode_cursor(made, wanted, "default")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,80}", fullmatch=True))
@settings(deadline=None)
def test_anything_else_is_refused(junk: str) -> None:
    """Text that isn't a cursor raises InvalidCursorError and nothing else."""
    with pytest.raises(cursor.InvalidCursorError):
        cursor.decode_cursor(junk, TrackFilter(), "default")


@pytest.mark.parametrize(
    "packed",
    [
        "WzIsImMzNWIxZGQ4NmNkMiIsLTEsImEiXQ",
        "WzIsImMzNWIxZGQ4NmNkMiIsdHJ1ZSwiYSJd",
        "WzFd",
        "bnVsbA",
        "e30",
        "WzIsIngiLCJhIl0",
        "WzEsIjZjZTI1ZDEyNGJiNCIsNV0",
        "W10",
    ],
)
def test_other_json_is_refused(packed: str) -> None:
    """Well-formed base64 of other JSON is refused as no cursor."""
    with pytest.raises(cursor.InvalidCursorError):
        cursor.decode_cursor(packed, TrackFilter(), "default")

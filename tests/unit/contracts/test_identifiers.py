"""What an identifier may hold, by Unicode's own categories, at every entry."""

import re
import sys
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from serving.parameters import decode_track_id
from serving.problems import ApiProblemError
from streams.contracts import InvalidEvent, Reason, TrackId, parse_interaction, parse_track_event
from streams.contracts.validation import check_track_id, is_identifier
from streams.producers.items import TrackItem

pytestmark = pytest.mark.unit

JOINERS = "\u200c\u200d\u2060"
REFUSED = ("Cc", "Cs", "Zl", "Zp")
SCHEMA = TypeAdapter(TrackId).json_schema()
_any = st.text(st.characters(exclude_categories=[]), max_size=20)


def test_each_category_of_unicode_is_taken_or_refused_as_a_whole() -> None:
    """Every letter, mark, number, punctuation, symbol, space and joiner; no control, surrogate or separator of lines."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "LMNPS" or category == "Zs" or character in JOINERS:
            assert is_identifier(f"a{character}"), hex(code)
        elif category in REFUSED:
            assert not is_identifier(f"a{character}"), hex(code)
        elif category == "Cf":
            assert is_identifier(character) == (code > 0xFFFF), hex(code)


def _taken(track_id: str) -> list[bool]:
    """Whether each entry accepts an id."""
    key, value = track_id.encode(errors="surrogatepass"), {"track_id": track_id, "embedding": [1.0, 0.5]}
    text = orjson.dumps(value | {"track_id": ""}).replace(
        b'"track_id":""', b'"track_id":%b' % _json(track_id)
    )
    entries = (
        lambda: check_track_id(track_id),
        lambda: TypeAdapter(TrackId).validate_python(track_id),
        lambda: parse_track_event(key, text, layout=None),
        lambda: parse_track_event(key, None, layout=None),
        lambda: parse_interaction(key, b'{"track_id":%b,"type":"play"}' % _json(track_id)),
        lambda: decode_track_id("".join(f"%{byte:02X}" for byte in key)),
        lambda: TrackItem.delete(track_id),
    )
    taken = []
    for entry in entries:
        try:
            entry()
        except (InvalidEvent, ApiProblemError, ValidationError):
            taken.append(False)
        else:
            taken.append(True)
    return taken


def _json(text: str) -> bytes:
    return b'"%b"' % b"".join(
        b"\\u%04x" % unit for unit in memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    )


@given(_any)
def test_every_door_has_the_same_rule(track_id: str) -> None:
    """Ingest with a track and with a null, interactions, requests, the API's paths, publishing."""
    assert set(_taken(track_id)) == {0 < len(track_id) <= 512 and is_identifier(track_id)}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_the_documents_pattern_is_the_rule(track_id: str) -> None:
    """Who goes by OpenAPI or AsyncAPI sends nothing that is refused, and need not hold back what is taken."""
    matches = re.fullmatch(SCHEMA["pattern"], track_id) is not None
    assert matches == is_identifier(track_id)


@pytest.mark.parametrize("track_id", ["a\u3000b", "a\u00a0b", "\U0001f469\u200d\U0001f3a4", "\u3000"])
def test_spaces_and_joiners_are_taken(track_id: str) -> None:
    """As real catalogues have them."""
    assert set(_taken(track_id)) == {True}


@pytest.mark.parametrize(
    "track_id", ["a\n", "\x00", "a\x7f", "\x85", "\ud800", "a\u2028", "\u202e", "\ufeff"]
)
def test_what_is_not_seen_is_refused(track_id: str) -> None:
    """With the one reason."""
    assert set(_taken(track_id)) == {False}
    with pytest.raises(InvalidEvent) as caught:
        check_track_id(track_id)
    assert caught.value.reason is Reason.INVALID_TRACK_ID
    assert caught.value.detail.isprintable()

"""Path segments and query strings as the read routes take them."""

from typing import Annotated
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from serving.models import TracksQuery
from serving.parameters import QueryReader, decode_track_id
from serving.problems import ApiProblemError
from serving.recommend.questions import RecommendQuery
from streams.contracts.validation import is_identifier

pytestmark = pytest.mark.unit

identifiers = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cf"]) | st.sampled_from("\u200c\u200d\u2060"),
    min_size=1,
    max_size=512,
)


@given(identifiers)
@settings(deadline=None)
def test_any_id_survives_percent_encoding(track_id: str) -> None:
    """An id comes back from its percent-encoded segment."""
    assert decode_track_id(quote(track_id, safe="")) == track_id


@given(identifiers.filter(lambda text: "%" not in text))
@settings(deadline=None)
def test_an_id_without_percent_signs_may_stand_as_it_is(track_id: str) -> None:
    """Nothing but `%` has a meaning: an id without one is read as written, `+` and `/` included."""
    assert decode_track_id(track_id) == track_id


@given(st.text(st.characters(codec="ascii")))
@settings(deadline=None)
def test_a_segment_is_decoded_or_refused(segment: str) -> None:
    """Whatever the segment, there is an id, or a 422."""
    try:
        track_id = decode_track_id(segment)
    except ApiProblemError as problem:
        refused = problem
    else:
        assert is_identifier(track_id)
        return
    assert refused.status_code == 422
    assert refused.members["errors"][0]["field"] == "track_id"


@pytest.mark.parametrize(
    ("segment", "track_id"),
    [("%252F", "%2F"), ("a%2fb", "a/b"), ("a+b", "a+b"), ("100%", "100%"), ("%zz", "%zz"), ("%C5%99", "ř")],
)
def test_is_decoded_exactly_once(segment: str, track_id: str) -> None:
    """One level of encoding is taken off, and what is no encoding stays."""
    assert decode_track_id(segment) == track_id


class _Model(BaseModel, frozen=True, extra="forbid"):
    number: int = 1
    words: Annotated[list[str], Field(max_length=3)] = []


def _refused(query: str) -> list[str]:
    with pytest.raises(ApiProblemError) as caught:
        QueryReader(_Model).read(query.encode())
    assert caught.value.status_code == 422
    return [error["field"] for error in caught.value.members["errors"]]


@pytest.mark.parametrize("query", ["", "number=1", "number=1&", "&"])
def test_reads_values_and_defaults(query: str) -> None:
    """What isn't given has its default."""
    assert QueryReader(_Model).read(query.encode()) == _Model()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))
@settings(deadline=None)
def test_a_list_is_a_repeated_parameter(words: list[str]) -> None:
    """A list parameter gives its values in order, decoded; commas mean nothing."""
    query = urlencode({"words": words}, doseq=True).encode()
    assert QueryReader(_Model).read(query).words == words


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("number=x", ["number"]),
        ("number=1&number=1", ["number"]),
        ("words=a&words=b&words=c&words=d", ["words"]),
        ("other=1", ["other"]),
        ("other=1&number=x", ["number", "other"]),
        ("Number=1", ["Number"]),
        ("number=%FF", ["query"]),
        ("a=1&" * 2001, ["query"]),
    ],
)
def test_what_cannot_be_used_is_named(query: str, fields: list[str]) -> None:
    """Unknown, repeated, malformed and surplus parameters are refused by name."""
    assert sorted(_refused(query)) == sorted(fields)


@pytest.mark.parametrize("model", [RecommendQuery, TracksQuery])
@given(raw=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(model: type[BaseModel], raw: bytes) -> None:
    """No query string, however broken, does worse than a 422."""
    try:
        read = QueryReader(model).read(raw)
    except ApiProblemError as problem:
        refused = problem
    else:
        assert isinstance(read, model)
        return
    assert refused.status_code == 422
    assert refused.members["errors"]

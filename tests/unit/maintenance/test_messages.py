"""Messages as Faust hands them over."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from streams.worker.recommender_agents import received_message

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, ()),
        ((), ()),
        ((("a", b"1"), ("a", b"2"), ("b", None)), (("a", b"1"), ("a", b"2"), ("b", None))),
        ([("a", b"1")], (("a", b"1"),)),
        ({"a": b"1"}, (("a", b"1"),)),
    ],
)
def test_headers_are_kept_whatever_their_form(
    given: Mapping[str, bytes] | None, kept: tuple[tuple[str, bytes], ...]
) -> None:
    """Pairs, as they come from the broker, and mappings, as Faust makes them: all of them are kept, in order."""
    message = SimpleNamespace(
        partition=1, offset=2, key=b"k", value=b"v", timestamp=3.0, timestamp_type=0, headers=given
    )
    assert received_message(message).headers == kept

"""Server-sent events, however their bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mess_client.events import EventDecoder, ServerEvent

pytestmark = pytest.mark.unit

STREAM = (
    'event: open\ndata: {"id":"0:-1"}\nid: 0:-1\n\n'
    ": nothing has happened\n\n"
    'event: change\r\ndata: {"track_id":\r\ndata: "a\u2028b\x85"}\r\nid: 0:7\r\nretry: 1500\r\n\r\n'
    "data: without a name\rid\r\r"
    "id: of nobody\n\n"
    "event: cut\ndata: off"
).encode()
EVENTS = [
    ServerEvent("open", '{"id":"0:-1"}', "0:-1"),
    ServerEvent("change", '{"track_id":\n"a\u2028b\x85"}', "0:7"),
    ServerEvent("message", "without a name", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_are_the_same_however_bytes_are_cut(cuts: list[int]) -> None:
    """Lines end where the standard says, not at what Python calls the end of one; comments and what is not complete are none."""
    places = [0, *sorted(cuts), len(STREAM)]
    decoder = EventDecoder()
    found = [event for begin, end in itertools.pairwise(places) for event in decoder.feed(STREAM[begin:end])]
    assert found == EVENTS
    assert (decoder.last_event_id, decoder.retry) == ("of nobody", 1.5)

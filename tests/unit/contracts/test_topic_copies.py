"""A topic's copy, line by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.topic_copies import CopiedMessage, CopyError

pytestmark = pytest.mark.unit

_BYTES = st.none() | st.binary(max_size=40)


@given(
    key=_BYTES,
    value=_BYTES,
    timestamp=st.integers(0, 2**41),
    headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3),
)
def test_a_message_reads_back_as_it_was(
    key: bytes | None, value: bytes | None, timestamp: int, headers: list[tuple[str, bytes]]
) -> None:
    """Any key, value and headers survive a line, a tombstone apart from an empty value."""
    message = CopiedMessage(key, value, timestamp, tuple(headers))
    line = message.line()
    assert line.count(b"\n") == 1
    assert CopiedMessage.parse(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"17",
        b'{"key": null, "value": null}',
        b'{"key": "!", "value": null, "time": 1}',
        b'{"key": 3, "value": null, "time": 1}',
        b'{"key": null, "value": null, "time": "now"}',
        b'{"key": null, "value": null, "time": 1, "headers": [1]}',
    ],
)
def test_what_is_not_a_copy_is_refused(line: bytes) -> None:
    """A broken or foreign line is one error of ours, whatever is wrong with it."""
    with pytest.raises(CopyError):
        CopiedMessage.parse(line)

"""Kafka messages as lines of JSON, whatever their bytes."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mess.cli.messages import message_line
from mess.readable import shown_bytes, shown_value

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (None, None),
        (b'{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        (b"null", None),
        (b"plain \xc3\xa9", "plain é"),
        (b"\xff\x00", {"base64": "/wA="}),
        (b"[" * 300 + b"]" * 300, "[" * 300 + "]" * 300),
    ],
)
def test_a_value_is_shown_as_what_it_is(raw: bytes | None, shown: Any) -> None:
    """JSON parsed, other text as text, other bytes as base64; JSON that is too deep to write is text."""
    assert shown_value(raw) == shown


def test_a_key_is_never_parsed() -> None:
    """Text stays text, even if it looks like JSON."""
    assert shown_bytes(b"12") == "12"
    assert shown_bytes(None) is None


def line(shorten: bool = False, **changes: Any) -> dict[str, Any]:
    """A message's line, parsed."""
    record = {
        "topic": "t",
        "partition": 2,
        "offset": 7,
        "timestamp": 1_767_225_600_000,
        "key": b"k",
        "value": b"{}",
        "headers": (),
    }
    read: dict[str, Any] = json.loads(message_line(SimpleNamespace(**record | changes), shorten=shorten))  # type: ignore[arg-type]
    return read


def test_a_line_has_the_coordinates_and_the_time() -> None:
    """Headers only if there are any; a timestamp that is no time stays a number."""
    assert line() == {
        "topic": "t",
        "partition": 2,
        "offset": 7,
        "time": "2026-01-01T00:00:00Z",
        "key": "k",
        "value": {},
    }
    assert line(headers=(("a", b"1"),))["headers"] == {"a": "1"}
    assert line(timestamp=-1)["time"] == -1


def test_long_values_are_shortened_on_request() -> None:
    """Embeddings in either form, and long texts, wherever they are nested."""
    event = {
        "embedding": [0.5] * 12,
        "short": [1, 2],
        "packed": {"dtype": "float32", "data": "A" * 1000},
        "notes": ["x" * 300],
    }
    assert line(value=json.dumps(event).encode(), shorten=True)["value"] == {
        "embedding": "12 numbers",
        "short": [1, 2],
        "packed": "1,000 characters of float32",
        "notes": [f"{'x' * 200}... 300 characters"],
    }
    assert line(value=json.dumps(event).encode())["value"] == event

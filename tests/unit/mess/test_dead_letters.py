"""Dead letters: read from messages, selected, and shown."""

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mess.dead_letters import views
from mess.dead_letters.selection import DeadLetterSelection, SelectedDeadLetters, parse_place
from mess.dead_letters.topic import DeadLetter
from store.dead_letters import HandledDeadLetter
from streams.contracts import InvalidEvent, Reason, dead_letter_headers
from streams.kafka.topics import TRACK_INGEST

pytestmark = pytest.mark.unit

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letter(
    offset: int = 5, *, topic: str = TRACK_INGEST, key: bytes | None = b"a/1", value: bytes | None = b"{}"
) -> DeadLetter:
    """A dead letter as a worker writes it."""
    error = InvalidEvent(Reason.WRONG_DIMENSION, "embedding has 2 components")
    headers = dead_letter_headers(
        error, topic=topic, partition=3, offset=77, failed_at=AT, received=[("trace", b"\xff"), ("own", b"1")]
    )
    record: Any = SimpleNamespace(
        partition=0, offset=offset, timestamp=1, key=key, value=value, headers=headers
    )
    return DeadLetter.of(record)


def stranger() -> DeadLetter:
    """A message of dead-letters that no worker has written."""
    record: Any = SimpleNamespace(
        partition=1, offset=2, timestamp=0, key=None, value=None, headers=[("own", None)]
    )
    return DeadLetter.of(record)


def test_a_dead_letter_says_where_it_came_from_and_why() -> None:
    """Its own headers are told apart from those that workers add."""
    read = letter()
    assert (read.place, read.reason, str(read.source), read.failed_at) == (
        "0:5",
        "wrong_dimension",
        f"{TRACK_INGEST}:3:77",
        AT,
    )
    assert read.own_headers == [("trace", b"\xff"), ("own", b"1")]
    assert read.event == ("a/1", 3, 77)


def test_a_message_of_anybody_has_no_source() -> None:
    """Nor a reason; the time is that of the message."""
    read = stranger()
    assert (read.reason, read.detail, read.source, read.event) == ("", "", None, None)
    assert read.failed_at == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("other", [{"topic": "track-interactions"}, {"key": None}, {"key": b"\xff"}])
def test_only_events_of_tracks_name_a_track(other: dict[str, Any]) -> None:
    """Others cannot be overtaken by a later event of the same track."""
    assert letter(**other).event is None


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, True),
        ({"places": ((0, 5),)}, True),
        ({"places": ((0, 6), (1, 5))}, False),
        ({"reason": "wrong_dimension"}, True),
        ({"reason": "not_finite"}, False),
        ({"topic": TRACK_INGEST}, True),
        ({"topic": "track-interactions"}, False),
        ({"since": AT}, True),
        ({"until": AT}, False),
    ],
)
def test_a_selection_admits_what_meets_all_its_conditions(chosen: dict[str, Any], expected: bool) -> None:
    """Those that are not given restrict nothing; `since` includes its moment, `until` does not."""
    selection = DeadLetterSelection(**chosen)
    assert selection.admits(letter()) is expected
    assert selection.everything is (not chosen)


def test_a_topic_selects_nothing_without_a_source() -> None:
    """A message of anybody came from no topic."""
    assert not DeadLetterSelection(topic=TRACK_INGEST).admits(stranger())
    assert DeadLetterSelection().admits(stranger())


def test_a_place_is_partition_and_offset() -> None:
    """Anything else is refused with the form."""
    assert parse_place("3:120") == (3, 120)
    for text in ("3", "3:", "a:1", "-1:2", "1:2:3"):
        with pytest.raises(ValueError, match="is not PARTITION:OFFSET"):
            parse_place(text)


def test_a_line_has_everything_but_the_value() -> None:
    """One JSON object; bytes that are no text are base64."""
    handled = HandledDeadLetter("replayed", AT)
    shown = json.loads(views.dead_letter_line(SelectedDeadLetters(letter(), 2, handled)))
    assert shown == {
        "place": "0:5",
        "refused_at": "2026-03-01T12:00:00Z",
        "reason": "wrong_dimension",
        "detail": "embedding has 2 components",
        "source": {"topic": TRACK_INGEST, "partition": 3, "offset": 77},
        "key": "a/1",
        "bytes": 2,
        "headers": [["trace", {"base64": "/w=="}], ["own", "1"]],
        "state": "replayed",
        "handled_at": "2026-03-01T12:00:00Z",
    }


def test_a_description_has_the_value_parsed_or_as_a_dump() -> None:
    """The dump has offsets, bytes in hexadecimal, and what can be printed."""
    selected = SelectedDeadLetters(letter(value=b'{"a": 1}'), 8, None)
    assert json.loads(views.dead_letter_description(selected, as_hex=False))["value"] == {"a": 1}
    dump = views.dead_letter_description(
        SelectedDeadLetters(letter(value=b"A\x00" * 9), 18, None), as_hex=True
    ).split("\n")
    assert dump[-2] == f"00000000  {'41 00 ' * 7}41 00  A.A.A.A.A.A.A.A."
    assert dump[-1].split() == ["00000010", "41", "00", "A."]


def test_a_table_quotes_messages_without_markup() -> None:
    """Brackets of a key are not styles, and control characters are replaced."""
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(views.dead_letter_table([SelectedDeadLetters(letter(key=b"[red]\x07"), 1234, None)]))
    shown = console.export_text()
    assert "[red]\N{REPLACEMENT CHARACTER}" in shown
    assert "1,234" in shown
    assert "open" in shown

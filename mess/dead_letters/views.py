"""Formats dead letters for people and programs."""

from datetime import UTC
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from mess.dead_letters.selection import SelectedDeadLetters
from mess.dead_letters.topic import DeadLetter
from mess.readable import shown_bytes, shown_value

_HEX_WIDTH = 16


def dead_letter_table(found: list[SelectedDeadLetters]) -> Table:
    """A table, a row for each."""
    shown = Table(box=None, pad_edge=False)
    for name in ("place", "refused at", "reason", "source", "key"):
        shown.add_column(name, no_wrap=name in {"place", "refused at"})
    shown.add_column("bytes", justify="right")
    shown.add_column("state")
    shown.add_column("detail", overflow="fold")
    for each in found:
        letter = each.letter
        shown.add_row(
            letter.place,
            f"{letter.failed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            letter.reason or "-",
            str(letter.source or "-"),
            # Plain text, not markup: these quote messages.
            Text(_one_line(letter.key)),
            "-" if each.size is None else f"{each.size:,}",
            each.state,
            Text(letter.detail),
        )
    return shown


def dead_letter_line(found: SelectedDeadLetters) -> str:
    """One line of JSON, everything but the value."""
    return orjson.dumps(_facts(found), option=orjson.OPT_UTC_Z).decode()


def dead_letter_description(found: SelectedDeadLetters, *, as_hex: bool) -> str:
    """Indented JSON with the value: parsed, as text, as base64, or as a hexadecimal dump below it."""
    value = found.letter.value
    facts = _facts(found)
    if not as_hex:
        facts["value"] = shown_value(value)
    text = orjson.dumps(facts, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2).decode()
    return text if not as_hex else "\n".join([text, *_hex_lines(value or b"")])


def _facts(found: SelectedDeadLetters) -> dict[str, Any]:
    letter = found.letter
    return {
        "place": letter.place,
        "refused_at": letter.failed_at,
        "reason": letter.reason or None,
        "detail": letter.detail or None,
        "source": _source(letter),
        "key": shown_bytes(letter.key),
        "bytes": found.size,
        "headers": [[name, shown_bytes(value)] for name, value in letter.own_headers],
        "state": found.state,
        "handled_at": found.handled.handled_at if found.handled else None,
    }


def _source(letter: DeadLetter) -> dict[str, Any] | None:
    if letter.source is None:
        return None
    return {
        "topic": letter.source.topic,
        "partition": letter.source.partition,
        "offset": letter.source.offset,
    }


def _one_line(raw: bytes | None) -> str:
    if raw is None:
        return "-"
    text = raw.decode(errors="replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _hex_lines(raw: bytes) -> list[str]:
    lines = []
    for start in range(0, len(raw), _HEX_WIDTH):
        part = raw[start : start + _HEX_WIDTH]
        printed = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_WIDTH - 1}}  {printed}")
    return lines

"""A Kafka message as one line of JSON."""

import sys
from typing import Any, Final

import orjson
import typer
from aiokafka.structs import ConsumerRecord

from mess.cli import console
from mess.readable import shown_bytes, shown_value
from streams.contracts import read_dead_letter_headers, times

_SHOWN_CHARACTERS: Final = 200


def print_message(record: ConsumerRecord[bytes, bytes], *, shorten: bool) -> None:
    """Print a message, in colour on a terminal."""
    line = message_line(record, shorten=shorten)
    if not sys.stdout.isatty():
        typer.echo(line)
        return
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415 - only a terminal needs it

    console.out().print(JSONHighlighter()(line), soft_wrap=True)


def message_line(record: ConsumerRecord[bytes, bytes], *, shorten: bool) -> str:
    """A message as one line of JSON.

    JSON values stay as they are; other text becomes a string, other bytes `{"base64": ...}`.

    Args:
        record: the message.
        shorten: replace embeddings and long texts by a description.
    """
    value = shown_value(record.value)
    line: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        # A timestamp out of range is shown as the number that the producer wrote.
        "time": times.kafka_moment(record.timestamp) or record.timestamp,
        "key": shown_bytes(record.key),
        "value": _shortened(value) if shorten else value,
    }
    if record.headers:
        line["headers"] = read_dead_letter_headers(record.headers)
    return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{value[:_SHOWN_CHARACTERS]}... {len(value):,} characters"
    if isinstance(value, list):
        if len(value) > 8 and all(isinstance(item, float | int) for item in value):
            return f"{len(value):,} numbers"
        return [_shortened(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"dtype", "data"} and isinstance(value["data"], str):
            return f"{len(value['data']):,} characters of {value['dtype']}"
        return {key: _shortened(item) for key, item in value.items()}
    return value

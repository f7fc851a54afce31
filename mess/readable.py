"""Converts keys and values of messages to JSON, whatever their bytes."""

import base64
from typing import Any

import orjson


def shown_value(raw: bytes | None) -> Any:
    """A value: parsed if it is JSON that can be written again, else as by `shown_bytes`.

    orjson reads deeper nesting than it writes.
    """
    try:
        value = None if raw is None else orjson.loads(raw)
        orjson.dumps([value])
    except (orjson.JSONDecodeError, TypeError):
        return shown_bytes(raw)
    return value


def shown_bytes(raw: bytes | None) -> str | dict[str, str] | None:
    """Text if the bytes are UTF-8, else `{"base64": ...}`; None stays None."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw or b"").decode()}

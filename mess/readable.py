"""Keys and values of messages as JSON can show them, whatever their bytes are."""

import base64
from typing import Any

import orjson


def shown_value(raw: bytes | None) -> Any:
    """A value: parsed where it is JSON that can be written again, else as `shown_bytes` has it.

    orjson reads deeper nesting than it writes.
    """
    try:
        value = None if raw is None else orjson.loads(raw)
        orjson.dumps([value])
    except (orjson.JSONDecodeError, TypeError):
        return shown_bytes(raw)
    return value


def shown_bytes(raw: bytes | None) -> str | dict[str, str] | None:
    """Text where it is UTF-8, else `{"base64": ...}`; None stays None."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw or b"").decode()}

"""The stack's own HTTP question: is it up."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5.0


async def answers_ok(url: str) -> bool:
    """Say whether a loopback URL answers with status 200."""
    return await asyncio.to_thread(_status, url) == http.client.OK


def _status(url: str) -> int | None:
    parts = urlsplit(url)
    # Straight to the address: a proxy that the environment configures has no business with loopback.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

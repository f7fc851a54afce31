"""The stack's own HTTP questions: is it up, is it ready."""

from __future__ import annotations

import asyncio
import http.client
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5.0


async def get_json(url: str) -> tuple[int, bytes] | None:
    """Return status and body of a loopback URL, or None if nothing answers there."""
    return await asyncio.to_thread(_get, url)


async def answers_ok(url: str) -> bool:
    """Say whether a loopback URL answers with status 200."""
    answer = await get_json(url)
    return answer is not None and answer[0] == http.client.OK


def _get(url: str) -> tuple[int, bytes] | None:
    parts = urlsplit(url)
    # Straight to the address: a proxy that the environment configures has no business with loopback.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

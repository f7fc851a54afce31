"""`/incipits`: the first notes of works, as far as the local stack has derived them."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from serving import models
from serving.context import context_of
from serving.incipits import Incipit, IncipitFile
from serving.models import IncipitsQuery, problem_responses
from serving.reading import add_read
from serving.recommend import replies

logger = structlog.get_logger("serving")

_NOT_HERE = "Incipits are derived by `mess up`, for its demo catalogue."
_UNREADABLE = "The file of incipits cannot be read at the moment."
_UNCACHED = {"cache-control": "no-store"}


async def read_incipits(request: Request, query: Annotated[IncipitsQuery, Query()]) -> Response:
    """The first ten seconds or so of these works as notes. Those that are not derived yet are derived next."""
    path = context_of(request).settings.incipits
    asked = list(dict.fromkeys(query.track_id))
    try:
        found, missing = await asyncio.to_thread(_look, path, asked) if path is not None else ({}, _NOT_HERE)
    except sqlite3.Error as error:
        logger.warning("incipits cannot be read", error=str(error))
        found, missing = {}, _UNREADABLE
    body = {"incipits": [_told(each, found.get(each), missing) for each in asked], "missing": missing}
    return replies.json_response(body, headers=_UNCACHED)


def _look(path: Path, asked: list[str]) -> tuple[dict[str, Incipit], str | None]:
    file = IncipitFile(path)
    missing = file.missing()
    found = {incipit.track_id: incipit for incipit in file.read(asked)}
    pending = [name for name, each in found.items() if each.notes is None and each.reason is None]
    if pending and missing is None:
        # The first one that is asked for is derived first.
        file.want([name for name in reversed(asked) if name in pending])
    return found, missing


def _told(track_id: str, incipit: Incipit | None, missing: str | None) -> dict[str, object]:
    if incipit is not None and incipit.notes is not None:
        return {"track_id": track_id, "status": "ready", "parts": incipit.notes, "detail": None}
    reason = missing or (
        incipit.reason if incipit is not None else "no incipit of this track is to be had here"
    )
    if reason is None:
        return {"track_id": track_id, "status": "pending", "parts": None, "detail": None}
    return {"track_id": track_id, "status": "none", "parts": None, "detail": reason}


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/incipits",
        read_incipits,
        tags=["catalogue"],
        summary="Read how works begin",
        response_model=models.Incipits,
        responses=problem_responses(422, 503),
    )

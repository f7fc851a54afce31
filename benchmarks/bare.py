"""The least that Starlette and asyncpg can do, to hold the API against: `python -m benchmarks.bare DSN PORT`.

`/bytes/{id}` answers with one body from memory, `/row/{id}` with a body read by primary key, both exactly the bytes that
the API sends for the same track.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TABLE = "bench_bodies"


def application(dsn: str) -> Starlette:
    """The two routes."""
    state: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=8, max_size=8) as pool:
            state["pool"] = pool
            state["body"] = await pool.fetchval(f"SELECT body FROM {TABLE} LIMIT 1")  # noqa: S608
            yield

    async def same(_: Request) -> Response:
        return Response(state["body"], media_type="application/json")

    async def row(request: Request) -> Response:
        track_id = unquote(request.path_params["track_id"])
        body = await state["pool"].fetchval(
            f"SELECT body FROM {TABLE} WHERE track_id = $1",  # noqa: S608
            track_id,
        )
        return Response(body, media_type="application/json")

    return Starlette(
        routes=[Route("/bytes/{track_id:path}", same), Route("/row/{track_id:path}", row)], lifespan=lifespan
    )


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), access_log=False, log_level="warning")

"""Routes that only read."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from serving.problems import install_problem_handlers
from serving.reading import WaitingRoute, add_read

pytestmark = pytest.mark.unit


class PageQuery(BaseModel, frozen=True, extra="forbid"):
    """Parameters of a test."""

    limit: int = 5


async def shown(request: Request, track_id: str, query: PageQuery) -> Response:
    """What arrived."""
    del request
    return JSONResponse({"track_id": track_id, "limit": query.limit})


async def plain(request: Request) -> Response:
    """Nothing but the request."""
    return JSONResponse({"path": request.url.path})


async def slow(request: Request) -> Response:
    """More time than a read has."""
    del request
    await asyncio.sleep(0.2)
    return Response(status_code=204)


@pytest.fixture
async def client() -> Any:
    """A client of an application with such routes, whose reads have 50 ms."""
    app = FastAPI()
    install_problem_handlers(app)
    add_read(app, "/tracks/{track_id:path}", shown)
    add_read(app, "/plain", plain)
    add_read(app, "/slow", slow)
    add_read(app, "/waiting", slow, route=WaitingRoute)
    watch = SimpleNamespace(trusted=lambda now: now > 0)
    context = SimpleNamespace(
        settings=SimpleNamespace(store_timeout=0.05), recommending=SimpleNamespace(watch=watch)
    )

    async def with_context(scope: Any, receive: Any, send: Any) -> None:
        raw = scope["raw_path"].decode()
        await app({**scope, "path": raw, "state": {"context": context}}, receive, send)

    transport = httpx.ASGITransport(app=with_context)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def test_a_path_and_a_query_reach_the_endpoint_decoded(client: httpx.AsyncClient) -> None:
    """The id is decoded once, and parameters have their types and defaults."""
    answer = await client.get("/tracks/a%2Fb%2520c?limit=7")
    assert answer.json() == {"track_id": "a/b%20c", "limit": 7}
    assert (await client.get("/tracks/x")).json() == {"track_id": "x", "limit": 5}


@pytest.mark.parametrize("path", ["/tracks/x?limits=7", "/tracks/x?limit=many", "/plain?anything=1"])
async def test_what_no_parameter_takes_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """422 with the field, also where a path has no parameters at all."""
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] in path


async def test_a_read_has_the_stores_time_and_no_more(client: httpx.AsyncClient) -> None:
    """A read that takes longer is 503; a route that waits for more than the store is not bounded."""
    late = await client.get("/slow")
    assert (late.status_code, late.json()["type"]) == (503, "urn:mess-ai:problem:store-unavailable")
    assert (await client.get("/waiting")).status_code == 204

"""Routes that only read: their parameters are a path segment and a query model, validated strictly.

FastAPI describes these routes in the OpenAPI document by their signatures. Requests bypass its dependency solver, which
would cost more than the read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import problems
from serving.context import context_of
from serving.models import SpaceQuery
from serving.parameters import NoParameters, QueryReader, decode_track_id
from serving.spaces import settled_context

Endpoint = Callable[..., Awaitable[Response]]


def _query_model(endpoint: Endpoint) -> type[BaseModel] | None:
    annotation = get_type_hints(endpoint).get("query")
    if annotation is None:
        return None
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


class ReadRoute(APIRoute):
    """A GET route whose endpoint takes `request` and, as it declares them, `track_id` and `query`.

    If `query` is a `SpaceQuery`, the request has the context of that space.

    Attributes:
        bounded: Whether the timeout of the store's reads applies to the endpoint.
        reads_query: Whether the route parses the query string; else the endpoint does.
    """

    bounded = True
    reads_query = True

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        model = None if not self.reads_query else _query_model(endpoint) or NoParameters
        self.app = _lean(endpoint, model, takes_track="{track_id" in path, bounded=self.bounded)


class WaitingRoute(ReadRoute):
    """A `ReadRoute` whose endpoint has its own timeouts, as it may wait for more than the store."""

    bounded = False


def _lean(endpoint: Endpoint, model: type[BaseModel] | None, *, takes_track: bool, bounded: bool) -> ASGIApp:
    reader = None if model is None else QueryReader(model)
    takes_query = _query_model(endpoint) is not None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        arguments: dict[str, Any] = {"request": request}
        query = None if reader is None else reader.read(scope["query_string"])
        if takes_query:
            arguments["query"] = query
        if takes_track:
            arguments["track_id"] = decode_track_id(scope["path_params"]["track_id"])
        if isinstance(query, SpaceQuery):
            await settled_context(scope, time.perf_counter(), query.space)
        timeout = context_of(request).settings.store_timeout if bounded else None
        try:
            # Statements have their own timeout; the wait for a free connection has only this one.
            async with asyncio.timeout(timeout):
                response = await endpoint(**arguments)
        except TimeoutError:
            raise problems.store_unavailable_problem() from None
        await response(scope, receive, send)

    return app


def add_read(
    app: FastAPI, path: str, endpoint: Endpoint, *, route: type[ReadRoute] = ReadRoute, **options: Any
) -> None:
    """Register `endpoint` for GET at `path`; `options` are those of FastAPI's own decorators."""
    app.router.add_api_route(path, endpoint, methods=["GET"], route_class_override=route, **options)

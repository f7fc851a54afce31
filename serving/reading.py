"""Routes that only read: their parameters are a path segment and a query model, checked strictly.

FastAPI describes these routes in the OpenAPI document from their signatures as usual; the requests themselves
go past its dependency solver, which would cost more than the read does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import problems
from serving.context import context_of
from streams.events import InvalidEvent, check_track_id

Endpoint = Callable[..., Awaitable[Response]]

Model = TypeVar("Model", bound=BaseModel)

_MAX_PARAMETERS = 2000


def decode_track_id(segment: str) -> str:
    """The track id that a percent-encoded path segment stands for; decoded once, `+` stays `+`.

    Raises:
        ProblemError: 422, where no track can have such an id.
    """
    try:
        return check_track_id(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError:
        raise problems.invalid_parameters([("track_id", "is not percent-encoded UTF-8")]) from None
    except InvalidEvent as error:
        message = error.detail.removeprefix("track_id ")
        raise problems.invalid_parameters([("track_id", message)]) from None


class QueryReader(Generic[Model]):
    """Reads a query string into a model, refusing what would otherwise be silently ignored."""

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._lists = {
            name for name, field in model.model_fields.items() if get_origin(field.annotation) is list
        }
        self._defaults = model.model_validate({})

    def read(self, query_string: bytes) -> Model:
        """The parameters of one request; the model must be frozen, as defaults are shared.

        Raises:
            ProblemError: 422, naming each parameter that is unknown, repeated, or out of range.
        """
        if not query_string:
            return self._defaults
        try:
            return self._model.model_validate(self._grouped(query_string))
        except ValidationError as error:
            errors = error.errors(include_url=False)
            raise problems.validation_problem(errors, list(self._model.model_fields)) from None

    def _grouped(self, query_string: bytes) -> dict[str, Any]:
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MAX_PARAMETERS,
            )
        except UnicodeDecodeError:
            raise problems.invalid_parameters([("query", "is not percent-encoded UTF-8")]) from None
        except ValueError:
            raise problems.invalid_parameters(
                [("query", f"has more than {_MAX_PARAMETERS} parameters")]
            ) from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name in self._lists:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise problems.invalid_parameters([(name, "is given more than once")])
            else:
                values[name] = value
        return values


def _query_model(endpoint: Endpoint) -> type[BaseModel] | None:
    annotation = get_type_hints(endpoint).get("query")
    if annotation is None:
        return None
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


class ReadRoute(APIRoute):
    """A GET route whose endpoint takes `request` and, as it declares them, `track_id` and `query`."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _lean(endpoint, takes_track="{track_id" in path)


class _NoParameters(BaseModel, frozen=True, extra="forbid"):
    """For routes that take none."""


def _lean(endpoint: Endpoint, *, takes_track: bool) -> ASGIApp:
    model = _query_model(endpoint)
    reader = QueryReader(model or _NoParameters)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        arguments: dict[str, Any] = {"request": request}
        query = reader.read(scope["query_string"])
        if model is not None:
            arguments["query"] = query
        if takes_track:
            arguments["track_id"] = decode_track_id(scope["path_params"]["track_id"])
        try:
            # Statements have their own timeout; waiting for a free connection has only this one.
            async with asyncio.timeout(context_of(request).settings.store_timeout):
                response = await endpoint(**arguments)
        except TimeoutError:
            raise problems.store_unavailable() from None
        await response(scope, receive, send)

    return app


def add_read(app: FastAPI, path: str, endpoint: Endpoint, **options: Any) -> None:
    """Register `endpoint` for GET at `path`; `options` are those of FastAPI's own decorators."""
    app.router.add_api_route(path, endpoint, methods=["GET"], route_class_override=ReadRoute, **options)

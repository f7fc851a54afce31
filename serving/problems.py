"""Problem documents (RFC 9457), the form of all errors of the API."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from store.errors import StoreError, StoreUnavailableError
from streams import contracts
from streams.contracts import ProblemDetails

logger = structlog.get_logger("serving")

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = contracts.PROBLEM_PREFIX


# What a worker's problem says by itself, and what is `ApiProblemError`'s own.
_OWN_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "name", "headers"})


class ApiProblemError(HTTPException):
    """An error with its answer: raise it anywhere below the API's routes.

    An `HTTPException`, because FastAPI turns any other error into a 400 where it reads a body.

    Attributes:
        status_code: HTTP status.
        name: The kind of problem, last part of its `type`.
        title: The kind of problem in words, the same for each occurrence.
        detail: This occurrence, for people.
        headers: Sent with the document.
        members: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        name: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.name = name
        self.title = title
        self.members = members


def track_not_found_problem(track_id: str) -> ApiProblemError:
    """404: no such track."""
    return ApiProblemError(404, "track-not-found", "Unknown track", f"There is no track {track_id!r}.")


def no_list_then(track_id: str, as_of: datetime | int) -> ApiProblemError:
    """404: a track had no list at a time or a version, though lists are kept for so long."""
    return ApiProblemError(
        404,
        "no-list-then",
        "No list at that time",
        f"Track {track_id!r} had no list {_when(as_of)}.",
    )


def list_not_kept(
    track_id: str, as_of: datetime | int, since: datetime | None, version: int | None
) -> ApiProblemError:
    """410: lists are not kept for so long; `since` and `version` say how far back they go."""
    reach = (
        "no replaced list is kept: MESS_LIST_HISTORY of the workers says for how long"
        if since is None
        else f"replaced lists are kept since {_iso(since)}, version {version}"
    )
    return ApiProblemError(
        410,
        "list-not-kept",
        "List not kept",
        f"The list that track {track_id!r} had {_when(as_of)} is not there: {reach}.",
        kept_since=None if since is None else _iso(since),
        kept_since_version=version,
    )


def _when(as_of: datetime | int) -> str:
    return f"at version {as_of}" if isinstance(as_of, int) else f"at {_iso(as_of)}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def unknown_space_problem(space: str, serving: Iterable[str]) -> ApiProblemError:
    """404: no generation of the space serves; `serving` are the spaces of which one does."""
    return refused_request(contracts.unknown_space(space, serving))


def space_unavailable(space: str) -> ApiProblemError:
    """503: the space serves, and this process cannot read it."""
    return ApiProblemError(
        503,
        "space-unavailable",
        "Space unavailable",
        f"The space {space!r} cannot be read at the moment, which /health/detailed explains: try again.",
        headers={"retry-after": "2"},
    )


def list_not_ready(track_id: str) -> ApiProblemError:
    """503: the track is there, its list is not yet."""
    return ApiProblemError(
        503,
        "list-not-ready",
        "List not ready",
        f"The neighbour list of track {track_id!r} is not computed yet: ask again in a moment.",
        headers={"retry-after": "1"},
    )


def refused_request(problem: ProblemDetails) -> ApiProblemError:
    """A problem of the contract's as this API's answer."""
    members = problem.model_dump(exclude={"type", "title", "status", "detail"})
    name = problem.type.removeprefix(TYPE_PREFIX)
    return ApiProblemError(problem.status, name, problem.title, problem.detail or problem.title, **members)


def invalid_parameters_problem(errors: Sequence[tuple[str, str]], *, left_out: int = 0) -> ApiProblemError:
    """422: parameters that cannot be used, as (field, message); `left_out` is how many others there are."""
    return refused_request(contracts.invalid_parameters(errors, left_out=left_out))


def parameter_message(error: Mapping[str, Any]) -> str:
    """The message for one of Pydantic's errors about a parameter."""
    return contracts.message_of(error, unknown="is not a parameter of this path")


def not_acceptable(media_types: Sequence[str]) -> ApiProblemError:
    """406: there is no answer in any form that the request accepts."""
    return ApiProblemError(
        406,
        "not-acceptable",
        "Not in a form that is accepted",
        f"This can be had as {', '.join(media_types)}, and `Accept` names none of these.",
        available=list(media_types),
    )


def no_locations(keys: Sequence[str]) -> ApiProblemError:
    """422: a playlist of locations, of tracks of which none has one."""
    names = ", ".join(f"extra.{key}" for key in keys)
    return invalid_parameters_problem(
        [("format", f"an M3U8 is a list of locations, and no track of this one has any: {names}")]
    )


def body_too_large(limit: int) -> ApiProblemError:
    """413: the request's body is longer than is accepted."""
    return ApiProblemError(
        413, "body-too-large", "Body too large", f"A request body may have at most {limit:,} bytes."
    )


def url_too_long(limit: int) -> ApiProblemError:
    """414: path and query are longer than is accepted."""
    return ApiProblemError(
        414, "url-too-long", "URL too long", f"A path with its query may have at most {limit:,} bytes."
    )


def headers_too_large() -> ApiProblemError:
    """431: a request's headers are longer, or more, than are accepted."""
    return ApiProblemError(
        431, "headers-too-large", "Headers too large", "The headers of a request may have at most 64 KiB."
    )


def malformed_request(detail: str) -> ApiProblemError:
    """400: the request is no valid HTTP."""
    return ApiProblemError(400, "malformed-request", "Malformed request", detail)


def request_too_slow(seconds: float) -> ApiProblemError:
    """408: a request was not complete in time."""
    return ApiProblemError(
        408,
        "request-too-slow",
        "Request too slow",
        f"The request was not complete within {seconds:g} s.",
        headers={"connection": "close"},
    )


def too_many_connections(limit: int) -> ApiProblemError:
    """503: the maximum number of connections is in use."""
    return ApiProblemError(
        503,
        "too-many-connections",
        "Too many connections",
        f"{limit:,} connections are being answered, which is as many as may be: retry after 1 s.",
        headers={"retry-after": "1"},
    )


def key_in_url() -> ApiProblemError:
    """400: a key came in the query string, where it ends up in logs."""
    return ApiProblemError(
        400,
        "key-in-url",
        "Key in the URL",
        "A key does not belong in a URL, which ends up in logs: send it as `Authorization: Bearer KEY` or"
        " `X-API-Key: KEY`, and revoke the one that was sent.",
        headers={"cache-control": "no-store"},
    )


def internal_problem(request_id: str) -> ApiProblemError:
    """500: a defect of the API; the log has the details under the request id."""
    return ApiProblemError(
        500,
        "internal-error",
        "Internal error",
        f"Something went wrong on our side; the log has it under request id {request_id}.",
        request_id=request_id,
    )


def store_unavailable_problem() -> ApiProblemError:
    """503: Postgres is away."""
    return ApiProblemError(
        503,
        "store-unavailable",
        "Store unavailable",
        "The store cannot be reached at the moment: try again.",
        headers={"retry-after": "2"},
    )


def broker_unavailable() -> ApiProblemError:
    """503: the broker is away, so the change feed cannot be read."""
    return ApiProblemError(
        503,
        "broker-unavailable",
        "Broker unavailable",
        "This needs the change feed, and the broker cannot be reached at the moment: try again.",
        headers={"retry-after": "2"},
    )


def no_worker() -> ApiProblemError:
    """503: no worker is there."""
    return ApiProblemError(
        503,
        "no-worker",
        "No worker",
        "This must be computed, and no worker is running at the moment: try again.",
        headers={"retry-after": "5"},
    )


def no_reply(seconds: float) -> ApiProblemError:
    """504: the workers did not reply in time."""
    return ApiProblemError(
        504,
        "no-reply",
        "No reply in time",
        f"This must be computed, and the workers have not replied within {seconds:g} s: try again.",
        headers={"retry-after": "1"},
    )


def too_busy(seconds: float = 0.0) -> ApiProblemError:
    """503: the workers cannot be expected to answer in time; `seconds` is by how much they would be late."""
    retry = max(1, math.ceil(seconds))
    return ApiProblemError(
        503,
        "too-busy",
        "Too busy",
        f"Too many requests are in front of this one for an answer in time: retry after {retry} s.",
        headers={"retry-after": str(retry)},
    )


def too_many_streams(limit: int) -> ApiProblemError:
    """503: the maximum number of streams is open."""
    return ApiProblemError(
        503,
        "too-many-streams",
        "Too many streams",
        f"{limit:,} streams are open, which is as many as may be: try again.",
        headers={"retry-after": "5"},
    )


def not_taken_in(partition: int, offset: int) -> ApiProblemError:
    """503: the event that the answer must include has not been absorbed in time."""
    return ApiProblemError(
        503,
        "event-not-taken-in",
        "Event not taken in yet",
        f"Event {partition}:{offset} has not been taken in yet: ask again in a moment.",
        headers={"retry-after": "1"},
    )


def problem_of_reply(error: Mapping[str, Any]) -> ApiProblemError:
    """The problem that a worker replied with."""
    members = {k: v for k, v in error.items() if k not in _OWN_MEMBERS and v}
    status = error.get("status")
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    title = str(error.get("title") or "ProblemDetails")
    return ApiProblemError(
        status,
        str(error.get("type", "")).removeprefix(TYPE_PREFIX) or "internal-error",
        title,
        str(error.get("detail") or title),
        headers={"retry-after": "1"} if status in {503, 504} else None,
        **members,
    )


def problem_document(problem: ApiProblemError, instance: str) -> dict[str, Any]:
    """The document for `problem`; `instance` is the path that was asked for, as it came."""
    return {
        "type": TYPE_PREFIX + problem.name,
        "title": problem.title,
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": instance,
        **problem.members,
    }


def problem_response(problem: ApiProblemError, instance: str) -> Response:
    """The answer for `problem`; `instance` is the path that was asked for, as it came."""
    document = orjson.dumps(problem_document(problem, instance))
    return Response(document, problem.status_code, problem.headers, MEDIA_TYPE)


def instance_of(scope: Mapping[str, Any]) -> str:
    """The path of a request exactly as it came, percent-encoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblemError)
    return problem_response(error, instance_of(request.scope))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where a parameter stands, such as "query", is no part of its name.
    errors = [{**each, "loc": each["loc"][1:] or each["loc"]} for each in error.errors()]
    problem = invalid_parameters_problem(
        [(contracts.field_of(each), parameter_message(each)) for each in errors]
    )
    return problem_response(problem, instance_of(request.scope))


async def _on_store_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, StoreUnavailableError):
        raise error
    logger.warning("store unavailable", error=str(error))
    return problem_response(store_unavailable_problem(), instance_of(request.scope))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, no such method, a body it cannot read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _on_method(request, dict(error.headers or {}))
    phrase = HTTPStatus(error.status_code).phrase
    if error.status_code == HTTPStatus.NOT_FOUND:
        problem = ApiProblemError(404, "path-not-found", "No such path", "There is nothing at this path.")
    else:
        problem = ApiProblemError(
            error.status_code,
            phrase.lower().replace(" ", "-"),
            phrase,
            str(error.detail),
            headers=dict(error.headers or {}),
        )
    return problem_response(problem, instance_of(request.scope))


def _on_method(request: Request, headers: Mapping[str, str]) -> Response:
    given = {
        name.strip() for key, value in headers.items() if key.lower() == "allow" for name in value.split(",")
    }
    allowed = given | {"OPTIONS"} | ({"HEAD"} if "GET" in given else set())
    allow = {"allow": ", ".join(sorted(allowed))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    problem = ApiProblemError(
        405,
        "method-not-allowed",
        "Method not allowed",
        f"This path takes {allow['allow']}, not {request.method}.",
        headers=allow,
    )
    return problem_response(problem, instance_of(request.scope))


def install_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document (unexpected ones: see `middleware.RequestObserver`)."""
    app.add_exception_handler(ApiProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(StoreError, _on_store_error)

"""ASGI middlewares for every request: request id, log, metrics, unexpected errors, and limits."""

import asyncio
import re
import time
import uuid
from typing import Any, Final
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import problems
from serving.keys_in_urls import redact_keys
from serving.metrics import UNMATCHED, ApiMetrics

access = structlog.get_logger("serving.access")
logger = structlog.get_logger("serving")

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CLIENT_GONE = 499


def caller_request_id(headers: Headers) -> str:
    """The caller's X-Request-ID if it is short and harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _raw_path(scope: Scope) -> str:
    """The percent-encoded path, which distinguishes `%2F` from a slash."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1")


class _IdentifiedAnswer:
    """One answer as it is sent; passes it on with the request id added."""

    def __init__(self, send: Send, request_id: str, *, head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._head = head
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._request_id
        elif message["type"] == "http.response.body":
            if self._head:
                message = {**message, "body": b""}
            self.size += len(message.get("body", b""))
        await self._send(message)


# Key of a request's scope: whether the body is not wanted (HEAD), so that a stream need not begin.
HEADERS_ONLY: Final = "mess.headers_only"


class RequestObserver:
    """Gives each request its id, counts and logs its answer, and answers unexpected errors.

    It settles two things for all routes: they see the percent-encoded path, so that a slash inside a track id differs from
    one between segments; and HEAD is GET without the body.
    """

    def __init__(self, app: ASGIApp, *, metrics: ApiMetrics, access_log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method: str = scope["method"]
        request_id = caller_request_id(Headers(scope=scope))
        # A copy: the server reads its own scope again when it writes the answer.
        head = method == "HEAD"
        scope = {**scope, "path": _raw_path(scope), "method": "GET" if head else method, HEADERS_ONLY: head}
        answer = _IdentifiedAnswer(send, request_id, head=head)
        self._metrics.in_progress.inc()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._serve(scope, receive, answer, request_id)
            finally:
                self._metrics.in_progress.dec()
                self._report(scope, method, answer, time.perf_counter() - began)

    async def _serve(
        self, scope: Scope, receive: Receive, answer: _IdentifiedAnswer, request_id: str
    ) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            logger.exception("request failed", path=redact_keys(scope["path"]))
            if answer.status:  # an answer has begun: let the server cut the connection
                raise
            problem = problems.internal_problem(request_id)
            await problems.problem_response(problem, scope["path"])(scope, receive, answer.send)

    def _report(self, scope: Scope, method: str, answer: _IdentifiedAnswer, seconds: float) -> None:
        route: str = getattr(scope.get("route"), "path_format", UNMATCHED)
        status = answer.status or CLIENT_GONE
        self._metrics.observe(route, method, status, seconds)
        if self._access_log:
            access.info("request", **_access_line(scope, method, route, status, answer.size, seconds))


def _access_line(
    scope: Scope, method: str, route: str, status: int, size: int, seconds: float
) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "method": method,
        "path": redact_keys(scope["path"]),
        "query": redact_keys(scope["query_string"].decode("latin-1")),
        "route": route,
        "status": status,
        "bytes": size,
        "duration_ms": round(seconds * 1000, 3),
        "client": client[0] if client else None,
    }


class RequestLimits:
    """Refuses URLs and bodies that are too long, by their declared and their actual length, and bodies that are too slow."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_url_bytes: int, body_timeout: float) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_url_bytes = max_url_bytes
        self._body_timeout = body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._refusal(scope)
        if problem is not None:
            await problems.problem_response(problem, scope["path"][:1000])(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _refusal(self, scope: Scope) -> problems.ApiProblemError | None:
        if len(scope["path"]) + len(scope["query_string"]) > self._max_url_bytes:
            return problems.url_too_long(self._max_url_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            return problems.body_too_large(self._max_body_bytes)
        return None

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, which raises once a body is longer than accepted, whatever it declares, or too slow."""
        received = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._body_timeout

        async def counted() -> Message:
            nonlocal received, complete
            if complete:  # the next message is the disconnect, which streams wait for
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise problems.request_too_slow(self._body_timeout) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_body_bytes:
                raise problems.body_too_large(self._max_body_bytes)
            return message

        return counted

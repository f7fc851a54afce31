"""The fast path: `GET /recommend/{track_id}` is answered before any routing.

It knows this one path. Its answers, headers, metrics and log lines are those of the application. The application has the
same path in its OpenAPI document, and answers the other cases: HEAD, origins that need CORS, bodies, URLs that are too long,
and unexpected failures.
"""

import itertools
import os
import time

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import problems
from serving.context import ApiContext
from serving.keys_in_urls import redact_keys
from serving.logging import AccessLog
from serving.middleware import SANE_REQUEST_ID
from serving.parameters import decode_track_id
from serving.problems import ApiProblemError
from serving.recommend.playlists import is_plain
from serving.recommend.questions import in_query_terms
from serving.recommend.replies import matches_tag
from serving.spaces import settled_context
from store.errors import StoreUnavailableError

logger = structlog.get_logger("serving")

ROUTE = "/recommend/{track_id}"
_PREFIX = b"/recommend/"
# Paths with the same prefix that are no track ids.
_OTHERS = (b"/compare", b"/stream")
_TYPE = (b"content-type", b"application/json")
_VARY = (b"vary", b"accept")
_CHECK = (b"cache-control", b"no-cache")
_NEVER = (b"cache-control", b"no-store")


class FastPath:
    """Answers the most frequent path in front of `app`.

    Args:
        app: Serves all other requests.
        log: The access log; None for none.
        max_url_bytes: Longer URLs go to `app`.
        cors: Whether requests with an origin go to `app`.
    """

    def __init__(self, app: ASGIApp, *, log: AccessLog | None, max_url_bytes: int, cors: bool) -> None:
        self._app = app
        self._log = log
        self._max_url_bytes = max_url_bytes
        # Requests with these go to the application.
        self._elsewhere = {b"content-length", b"transfer-encoding", *([b"origin"] if cors else [])}
        # Ids for requests without one: unique among processes, and cheap.
        self._id = f"{os.urandom(10).hex()}%012x"
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["method"] == "GET":
            path: bytes = scope.get("raw_path") or b""
            if path.startswith(_PREFIX) and not path.endswith(_OTHERS) and "state" in scope:
                reading = _Reading(scope, path)
                fits = len(reading.target) <= self._max_url_bytes
                if fits and self._plain(reading) and await self._read(reading, send):
                    return
        await self._app(scope, receive, send)

    def _plain(self, reading: "_Reading") -> bool:
        """Read the headers; whether the fast path can answer with these."""
        if b"format=" in reading.query:
            return False
        for name, value in reading.scope["headers"]:
            if name == b"x-request-id":
                if SANE_REQUEST_ID.fullmatch(value.decode("latin-1")):
                    reading.request_id = value
            elif name == b"if-none-match":
                reading.unless = value
            elif name in self._elsewhere or (name == b"accept" and not is_plain(value)):
                return False
        if not reading.request_id:
            reading.request_id = (self._id % next(self._numbers)).encode()
        return True

    async def _read(self, reading: "_Reading", send: Send) -> bool:
        """Answer. After an unexpected failure the application answers, which fails alike and reports it."""
        metrics = reading.context.metrics
        try:
            if not reading.remembered():
                with metrics.in_progress.track_inprogress():
                    await reading.look_up()
        except ApiProblemError as problem:
            reading.refuse(problem)
        except StoreUnavailableError as error:
            logger.warning("store unavailable", error=str(error), request_id=reading.request_id.decode())
            reading.refuse(problems.store_unavailable_problem())
        except Exception:  # noqa: BLE001 -- see above
            return False
        reading.headers.append((b"x-request-id", reading.request_id))
        await send({"type": "http.response.start", "status": reading.status, "headers": reading.headers})
        await send({"type": "http.response.body", "body": reading.body})
        seconds = time.perf_counter() - reading.began
        metrics.observe(ROUTE, "GET", reading.status, seconds)
        if self._log is not None:
            self._log.add(reading.line(seconds))
        return True


class _Reading:
    """One request and its answer."""

    __slots__ = (
        "began",
        "body",
        "context",
        "headers",
        "path",
        "query",
        "request_id",
        "scope",
        "status",
        "target",
        "unless",
    )

    def __init__(self, scope: Scope, path: bytes) -> None:
        self.began = time.perf_counter()
        self.scope = scope
        self.path = path
        self.query: bytes = scope["query_string"]
        self.target = path + b"?" + self.query if self.query else path
        self.context: ApiContext = scope["state"]["context"]
        self.request_id = b""
        self.unless = b""
        self.status = 200
        self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def remembered(self) -> bool:
        """Answer from memory, if it has the answer and this is known to be current."""
        context = self.context
        entry = context.memory.get(self.target)
        if entry is None or entry.stale or not context.recommending.certain(entry, self.began):
            return False
        context.memory.hits += 1
        self._found(*context.recommending.ready(entry, self.began))
        return True

    async def look_up(self) -> None:
        """Answer from memory, the store or the workers.

        Raises:
            ProblemError: There is no answer.
            StoreUnavailableError: The store cannot be reached, and memory has no answer.
        """
        track_id = decode_track_id(self.path[len(_PREFIX) :].decode("latin-1"))
        question = self.context.questions.read(self.query)
        context = await settled_context(self.scope, self.began, question.query.space)
        with in_query_terms():
            answer = await context.answer(self.target, track_id, question, self.began)
        context.metrics.read_from(answer.source)
        self._found(answer.body, answer.tag)

    def _found(self, body: bytes, tag: bytes) -> None:
        if not tag:
            self.headers = [_TYPE, _NEVER, _VARY, (b"content-length", b"%d" % len(body))]
        elif self.unless and matches_tag(self.unless.decode("latin-1"), tag.decode()):
            self.status = 304
            self.headers = [_CHECK, _VARY, (b"etag", tag)]
            return
        else:
            self.headers = [_TYPE, _CHECK, _VARY, (b"etag", tag), (b"content-length", b"%d" % len(body))]
        self.body = body

    def refuse(self, problem: ApiProblemError) -> None:
        """Answer with a problem document."""
        response = problems.problem_response(problem, self.path.decode("latin-1"))
        self.status = response.status_code
        self.headers = list(response.raw_headers)
        self.body = bytes(response.body)

    def line(self, seconds: float) -> dict[str, object]:
        """The access line."""
        client = self.scope.get("client")
        return {
            "method": "GET",
            "path": redact_keys(self.path.decode("latin-1")),
            "query": redact_keys(self.query.decode("latin-1")),
            "route": ROUTE,
            "status": self.status,
            "bytes": len(self.body),
            "duration_ms": round(seconds * 1000, 3),
            "client": client[0] if client else None,
            "request_id": self.request_id.decode("latin-1"),
            "event": "request",
            "level": "info",
            "logger": "serving.access",
        }

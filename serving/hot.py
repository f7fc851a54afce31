"""The shortest way of a read: what memory holds, sent before any routing.

It stands outermost and answers a GET under /recommend whose answer is in memory and known to be the newest. All else goes
on to the application: what has to be looked up, every other path, HEAD, and origins that CORS has to be told about.
The answer, its headers, metrics and log line are those of the application.
"""

import itertools
import os
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.context import Context
from serving.logging import AccessLines
from serving.memory import Entry
from serving.middleware import SANE_REQUEST_ID
from serving.replies import matches_tag

ROUTE = "/recommend/{track_id}"
_PREFIX = b"/recommend/"
_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-cache"))


class HotReads:
    """Answers from memory in front of `app`.

    Args:
        app: What everything else goes to.
        log: Where answered requests are logged; None for nowhere.
    """

    def __init__(self, app: ASGIApp, log: AccessLines | None) -> None:
        self._app = app
        self._log = log
        # Ids of requests that bring none: unlike those of other processes, and cheap.
        self._ids = f"{os.urandom(10).hex()}{{:012x}}".format
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        path: bytes = scope.get("raw_path") or b""
        if not path.startswith(_PREFIX) or "state" not in scope:
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        context: Context = scope["state"]["context"]
        query: bytes = scope["query_string"]
        entry = context.memory.get(path + b"?" + query if query else path)
        if entry is None or entry.stale or not context.recommending.certain(entry, began):
            return await self._app(scope, receive, send)
        request_id = b""
        unless = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value if SANE_REQUEST_ID.fullmatch(value.decode("latin-1")) else b""
            elif name == b"if-none-match":
                unless = value
            elif name == b"origin" and context.settings.cors_origins:
                return await self._app(scope, receive, send)
        if not request_id:
            request_id = self._ids(next(self._numbers)).encode()
        return await self._send(scope, send, context, entry, (request_id, unless), began)

    async def _send(
        self,
        scope: Scope,
        send: Send,
        context: Context,
        entry: Entry,
        told: tuple[bytes, bytes],
        began: float,
    ) -> None:
        request_id, unless = told
        body, tag = context.recommending.ready(entry, began)
        status = 200
        if unless and matches_tag(unless.decode("latin-1"), tag.decode()):
            status, body = 304, b""
            headers = [_HEADERS[1]]
        else:
            headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        headers += [(b"etag", tag), (b"x-request-id", request_id)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        seconds = time.perf_counter() - began
        context.metrics.observe(ROUTE, "GET", status, seconds)
        context.metrics.memory_hits.inc()
        if self._log is not None:
            client = scope.get("client")
            self._log.add(
                {
                    "method": "GET",
                    "path": scope["raw_path"].decode("latin-1"),
                    "query": scope["query_string"].decode("latin-1"),
                    "route": ROUTE,
                    "status": status,
                    "bytes": len(body),
                    "duration_ms": round(seconds * 1000, 3),
                    "client": client[0] if client else None,
                    "request_id": request_id.decode("latin-1"),
                    "event": "request",
                    "level": "info",
                    "logger": "serving.access",
                }
            )

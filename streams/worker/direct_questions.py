"""Answers the API's requests over HTTP, on the operations server, with the same requests and replies as on the topics."""

import hmac
import secrets
import socket
from typing import Final

from aiohttp import web

from streams.contracts import InvalidEvent, tracing
from streams.recommender.request_handler import LeavingError
from streams.recommender.service import RecommendationService

PATH: Final = "/questions"
# Every address of the machine: none that others could be told.
_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not listened on


def reachable_url(host: str, port: int) -> str:
    """The URL of a server that listens on `host`; if `host` is any address, by this machine's name."""
    name = host
    if host in _ANY:
        name = socket.gethostname()
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


class DirectQuestions:
    """Answers requests with its token, which is new at each start of the process.

    Args:
        service: Started before the first request.
    """

    def __init__(self, service: RecommendationService) -> None:
        self._service = service
        self.token = secrets.token_urlsafe(32)
        self._expected = f"Bearer {self.token}".encode()

    async def answer(self, request: web.Request) -> web.Response:
        """The reply to a request: 200, a problem or not; 401 without the token, 503 from a worker that is leaving."""
        shown = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(shown, self._expected):
            return web.Response(status=401)
        parent = tracing.parent_of((name, value.encode()) for name, value in request.headers.items())
        try:
            with tracing.traced_span("answer request", "server", parent=parent):
                reply = await self._service.handler.respond(await request.read())
        except InvalidEvent as error:
            return web.Response(status=400, text=error.detail)
        except LeavingError:
            return web.Response(status=503, headers={"Connection": "close"})
        return web.Response(body=reply, content_type="application/json")

"""Tracing of HTTP requests: a span for each, within the caller's trace if it sends one."""

from typing import Final

from opentelemetry.trace import Span, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.keys_in_urls import redact_keys
from streams.contracts import tracing

# Requested every few seconds, and of no interest.
_UNTRACED: Final = ("/health", "/metrics")
# First segments that span names may contain; callers make up others.
_KNOWN: Final = frozenset(
    {"recommend", "tracks", "composers", "tags", "strategies", "explain", "changes", "docs"}
)


class TracingMiddleware:
    """Traces requests to `app`. It is the outermost layer, and only installed if spans are sent anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].startswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        parent = tracing.parent_of((str(name, "latin-1"), value) for name, value in scope["headers"])
        segment = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
        name = f"{scope['method']} /{segment}" if segment in _KNOWN else scope["method"]
        with tracing.traced_span(
            name,
            "server",
            parent=parent,
            http_request_method=scope["method"],
            url_path=redact_keys(scope["path"]),
        ) as span:
            await self._app(scope, receive, send if span is None else _telling(send, span))


def _telling(send: Send, span: Span) -> Send:
    """`send`, which records the status of the answer."""

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(Status(StatusCode.ERROR))
            for name, value in message.get("headers", ()):
                if name == b"x-request-id":
                    span.set_attribute("mess.request_id", str(value, "latin-1"))
        await send(message)

    return telling

"""Security headers, on every answer."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# From OWASP's REST Security Cheat Sheet. Caddy, which terminates TLS, sends Strict-Transport-Security.
SECURITY_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class SecurityHeaders:
    """Adds the headers that an answer of `app` lacks; a page's own policy stays. It is the outermost layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                headers += [header for header in SECURITY_HEADERS if header[0] not in there]
            await send(message)

        await self._app(scope, receive, secured)

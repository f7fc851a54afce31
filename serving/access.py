"""Access control: keys, scopes and rates, checked by the outermost middleware.

It is installed only if keys are required or a rate is set.
"""

import math
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import problems
from serving.keys import ApiKeyRing
from serving.keys_in_urls import holds_key
from serving.metrics import ApiMetrics
from serving.middleware import RequestObserver
from serving.problems import ApiProblemError
from serving.rates import RateDecision, RateLimiter, RequestRate, caller_at, rate_headers
from serving.settings import ServingSettings
from store.keys import ApiKey

# For probes and scrapers, which have no key.
_OPERATIONS: Final = frozenset(
    {b"/health", b"/health/live", b"/health/ready", b"/health/detailed", b"/metrics"}
)
# The page and the reference: browsers cannot send a key for them, and they hold nothing of the catalogue.
_PAGES: Final = frozenset({b"/", b"/openapi.json", b"/docs", b"/docs/"})
_ASSETS: Final = (b"/docs/", b"/page/")
_RECOMMENDING: Final = (b"/recommend", b"/explain")

_REALM: Final = 'Bearer realm="mess-ai"'


def key_missing() -> ApiProblemError:
    """401: no key came with the request."""
    return ApiProblemError(
        401,
        "key-missing",
        "Key missing",
        "This needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        headers={"www-authenticate": _REALM, "cache-control": "no-store"},
    )


def key_invalid() -> ApiProblemError:
    """401: the key is unknown, expired or revoked."""
    return ApiProblemError(
        401,
        "key-invalid",
        "Key not valid",
        "The key is unknown, expired or revoked.",
        headers={"www-authenticate": f'{_REALM}, error="invalid_token"', "cache-control": "no-store"},
    )


def scope_missing(scope: str) -> ApiProblemError:
    """403: the key is valid and lacks the scope."""
    return ApiProblemError(
        403,
        "scope-missing",
        "Key not for this",
        f"The key lacks the scope {scope!r}.",
        headers={
            "www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"',
            "cache-control": "no-store",
        },
        scope=scope,
    )


def too_many_requests(rate: RequestRate, taken: RateDecision) -> ApiProblemError:
    """429: over the rate."""
    seconds = max(1, math.ceil(taken.retry_after))
    told = {name.decode(): value.decode() for name, value in rate_headers(rate, taken)}
    return ApiProblemError(
        429,
        "too-many-requests",
        "Too many requests",
        f"The limit is {rate}: ask again in {seconds} s.",
        headers={"retry-after": str(seconds), "cache-control": "no-store", **told},
    )


class ProblemResponder:
    """An ASGI application that answers with the problem in the request's scope."""

    MEMBER = "mess.problem"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        problem: ApiProblemError = scope[self.MEMBER]
        await problems.problem_response(problem, problems.instance_of(scope)[:1000])(scope, receive, send)


def guard_access(
    app: ASGIApp, settings: ServingSettings, keys: ApiKeyRing | None, metrics: ApiMetrics
) -> "AccessControl":
    """`AccessControl` around `app`, by the settings."""
    # Refusals pass the same logging, metrics and CORS as other answers.
    refuse: ASGIApp = ProblemResponder()
    if settings.cors_origins:
        refuse = CORSMiddleware(refuse, **cors_options(settings))
    refuse = RequestObserver(refuse, metrics=metrics, access_log=settings.access_log)
    return AccessControl(
        app,
        refuse=refuse,
        keys=keys,
        key_rate=settings.key_rate,
        address_rate=settings.address_rate,
        metrics=metrics,
    )


def cors_options(settings: ServingSettings) -> dict[str, Any]:
    """What Starlette's CORS middleware takes."""
    return {
        "allow_origins": list(settings.cors_origins),
        "allow_methods": ["GET", "HEAD", "OPTIONS", "POST"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "If-None-Match",
            "Last-Event-ID",
            "X-API-Key",
            "X-Request-ID",
        ],
        "expose_headers": ["X-Request-ID", "ETag", "Retry-After", "RateLimit", "RateLimit-Policy"],
    }


class AccessControl:
    """Lets requests through to `app`, or answers them with a problem.

    Args:
        app: Serves accepted requests.
        refuse: Serves refused requests, whose problem is in the scope: `ProblemResponder` behind logging and metrics.
        keys: The keys; None if none is required.
        key_rate: The rate of a key without its own; None for no limit.
        address_rate: The rate of an address without a valid key; None for no limit.
        metrics: Counts refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refuse: ASGIApp,
        keys: ApiKeyRing | None,
        key_rate: RequestRate | None,
        address_rate: RequestRate | None,
        metrics: ApiMetrics,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._keys = keys
        self._key_rate = key_rate
        self._address_rate = address_rate
        self._limiter = RateLimiter()
        self._metrics = metrics
        if keys is not None:
            metrics.keys.set_function(lambda: len(keys))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        # OPTIONS reports methods and CORS; a browser sends no key with it.
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return await self._app(scope, receive, send)
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        exposed = self._keys is not None and holds_key(scope["query_string"].decode("latin-1"))
        if path in _OPERATIONS and not exposed:
            return await self._app(scope, receive, send)
        key, problem = (None, problems.key_in_url()) if exposed else self._caller(scope, path)
        rate, taken = self._take(scope, key)
        if taken is not None and not taken.allowed:
            assert rate is not None
            problem = too_many_requests(rate, taken)
        if problem is not None:
            self._metrics.refused.labels(problem.name).inc()
            return await self._refuse({**scope, ProblemResponder.MEMBER: problem}, receive, send)
        if key is not None:
            self._metrics.key_requests.labels(key.prefix).inc()
        if rate is not None and taken is not None:
            send = _telling(send, rate_headers(rate, taken))
        return await self._app(scope, receive, send)

    def _caller(self, scope: Scope, path: bytes) -> tuple[ApiKey | None, ApiProblemError | None]:
        """The owner of a request's key, and the problem with the key, if any."""
        if self._keys is None or path in _PAGES or path.startswith(_ASSETS):
            return None, None
        presented = _presented(scope)
        if presented is None:
            return None, key_missing()
        key = self._keys.check(presented)
        if key is None:
            return None, key_invalid()
        wanted = "recommend" if path.startswith(_RECOMMENDING) else "read"
        return key, None if wanted in key.scopes else scope_missing(wanted)

    def _take(self, scope: Scope, key: ApiKey | None) -> tuple[RequestRate | None, RateDecision | None]:
        """Count a request if its caller has a rate."""
        if key is not None and self._keys is not None:
            rate = self._keys.rate_of(key) or self._key_rate
            return rate, None if rate is None else self._limiter.take((key.prefix,), rate)
        rate = self._address_rate
        if rate is None:
            return None, None
        client = scope.get("client")
        return rate, self._limiter.take(caller_at(client[0] if client else None), rate)


def _presented(scope: Scope) -> str | None:
    """The key of a request; None if it has none."""
    other = None
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip(), "latin-1")
        if name == b"x-api-key":
            other = str(value, "latin-1")
    return other


def _telling(send: Send, told: list[tuple[bytes, bytes]]) -> Send:
    """`send`, with headers added to the answer."""

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *told]}
        await send(message)

    return telling

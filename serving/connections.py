"""Limits of connections in number and time. A connection beyond them is cut, with a problem document if one can be sent.

uvicorn limits neither the time of a request or of the reading of an answer, nor the length of headers.
"""

import asyncio
import resource
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving import problems
from serving.headers import SECURITY_HEADERS
from serving.problems import ApiProblemError

logger = structlog.get_logger("serving")

# File descriptors for other purposes: Postgres, Kafka, files, and bursts of new connections.
RESERVED: Final = 100
# Callers get at least so many connections, however few descriptors there are.
_LEAST: Final = 16
# The parser's maximum length of a URL: its positions have 16 bits.
PARSED_URL_BYTES: Final = 65_535
# Maximum bytes of a request's head, URL included, and maximum number of headers.
_HEAD_BYTES: Final = PARSED_URL_BYTES + 64 * 1024
_HEADERS: Final = 200
# Seconds beyond the limit of a body after which the connection is cut, if the application has not refused it by then.
_BODY_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for peers.

    Attributes:
        connections: Maximum number of open connections.
        head: Seconds from a connection, or from a request's first byte, to the end of its headers.
        body: Seconds from there to the end of its body.
        write: Seconds that a peer may read nothing of its answer.
        keep_alive: Seconds an idle connection is kept after an answer.
    """

    connections: int
    head: float
    body: float
    write: float
    keep_alive: int


def connections_for(wanted: int) -> int:
    """The possible number of connections, `wanted` at most, by the limit of file descriptors, which is raised if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + RESERVED:
        soft = wanted + RESERVED if hard == resource.RLIM_INFINITY else min(hard, wanted + RESERVED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(_LEAST, soft - RESERVED))
    if allowed < wanted:
        logger.warning(
            "fewer connections than MESS_API_MAX_CONNECTIONS: raise the limit of open files",
            connections=allowed,
            wanted=wanted,
            open_files=soft,
        )
    return allowed


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration, with limits for peers.

    Args:
        app: The application.
        limits: The limits.
        cut: Called with the reason, whenever a connection is cut or a request refused before the application sees it.
        options: Of `uvicorn.Config`.
    """

    def __init__(
        self, app: Any, limits: ConnectionLimits, cut: Callable[[str], None], **options: Any
    ) -> None:
        super().__init__(app, http=LimitedProtocol, timeout_keep_alive=limits.keep_alive, **options)
        self.limits = limits
        self.cut = cut


class _RefusedError(Exception):
    """Ends the parsing of a request that is refused."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `sweep` is called about once a second, and judges it by its last activity."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        assert isinstance(config, LimitedConfig)
        self._limits = config.limits
        self._cut = config.cut
        self._refusal: ApiProblemError | None = None
        # Of the request being received: whether it has begun, and whether its head and the whole are complete.
        self._begun = False
        self._head_received = False
        self._received = False
        self._head_bytes = 0
        self._since = self.loop.time()
        self._stalled_since: float | None = None
        self._closing_since: float | None = None

    @property
    def since(self) -> float:
        """The time of its last change of state, by the loop's clock."""
        return self._since

    @property
    def expendable(self) -> bool:
        """Whether no request of it is being answered: another connection may take its place."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not (answering and self._received)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`; beyond the limit, the connection that has been idle longest is cut."""
        super().connection_made(transport)
        if len(self.connections) <= self._limits.connections:
            return
        others = cast("Iterable[LimitedProtocol]", self.connections)
        waiting = [other for other in others if other is not self and other.expendable]
        if waiting:
            min(waiting, key=lambda other: other.since).abort("evicted")
        else:
            self._refuse(problems.too_many_connections(self._limits.connections))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.transport.is_closing():  # refused: further data is ignored
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_received or self.transport.is_closing():
            self._head_bytes = 0
        elif self._head_bytes > _HEAD_BYTES:
            self._refuse(problems.headers_too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun, self._head_received, self._received = True, False, False
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of its URL, which is refused if it is too long for the parser."""
        super().on_url(url)
        if len(self.url) > PARSED_URL_BYTES:
            self._refusal = problems.url_too_long(PARSED_URL_BYTES)
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        super().on_header(name, value)
        if len(self.headers) > _HEADERS:
            self._refusal = problems.headers_too_large()
            raise _RefusedError

    def on_headers_complete(self) -> None:
        """Its headers are complete."""
        self._head_received = True
        self._since = self.loop.time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is complete."""
        super().on_message_complete()
        self._received = True
        if self.cycle is None or self.cycle.response_complete:  # answered before it was there
            self._begun, self._since = False, self.loop.time()

    def on_response_complete(self) -> None:
        """It has been answered."""
        if self._received:
            self._begun, self._since = False, self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer does not accept what is sent."""
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The peer accepts it again."""
        self._stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser cannot read, or that was refused while it was parsed."""
        refusal, self._refusal = self._refusal, None
        self._refuse(refusal or problems.malformed_request(msg))

    def sweep(self, now: float) -> None:
        """Cut the connection if its peer takes too long; `now` is of the loop's clock."""
        if self.transport.is_closing():
            # An answer that the peer does not read would keep it open for ever.
            self._closing_since = self._closing_since or now
            if now - self._closing_since > self._limits.write:
                self.abort("write-timeout")
        elif self._stalled_since is not None and now - self._stalled_since > self._limits.write:
            self.abort("write-timeout")
        elif not self.expendable:
            return
        elif not self._begun:
            limit = self._limits.head if self.cycle is None else self._limits.keep_alive + 1
            if now - self._since > limit:
                self._cut("idle")
                self.transport.close()
        elif not self._head_received:
            if now - self._since > self._limits.head:
                self._refuse(problems.request_too_slow(self._limits.head))
        elif not self._received and now - self._since > self._limits.body + _BODY_GRACE:
            self.abort("body-timeout")

    def abort(self, why: str) -> None:
        """Cut the connection at once; unsent data is lost."""
        self._cut(why)
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self, problem: ApiProblemError) -> None:
        """Answer with a problem document and close; cut the connection if an answer is already being sent."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.abort(problem.name)
            return
        self._cut(problem.name)
        logger.info("connection refused", why=problem.name, client=self.client[0] if self.client else None)
        self.transport.write(_written(problem, self.server_state.default_headers))
        self.transport.close()


def _written(problem: ApiProblemError, defaults: Iterable[tuple[bytes, bytes]]) -> bytes:
    response = problems.problem_response(problem, "")
    own: Mapping[bytes, bytes] = {
        b"x-request-id": uuid.uuid4().hex.encode(),
        b"connection": b"close",
        **dict(SECURITY_HEADERS),
    }
    headers = [*defaults, *response.raw_headers, *own.items()]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body)

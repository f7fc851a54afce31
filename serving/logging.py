"""Structured logs: one JSON object a line, with the request id in each line of a request."""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# Local variables stay out of tracebacks: they hold passwords.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
)


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(form: str, minimum: str) -> None:
    """Send all log lines, those of libraries included, to standard output in one format.

    Replaces the handlers of the root logger: for processes, not for libraries or tests.

    Args:
        form: `json`, or `console` for people.
        minimum: Minimum log level: `debug`, `info`, `warning` or `error`.
    """
    level = _LEVELS[minimum]
    as_json = form == "json"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _TRACEBACKS if as_json else structlog.processors.UnicodeDecoder(),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_dumps) if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Requests are in the access log; a broker that is away is in the health report.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class AccessLog:
    """The access log of the fast path, in the format of `configure_logging`, written in batches.

    A line costs a microsecond or two and reaches standard output within a tenth of a second.
    """

    _WAIT = 0.1
    _MANY = 1_000

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._due: asyncio.TimerHandle | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Log `line`, with the time added."""
        line["time"] = datetime.now(UTC)
        self._lines.append(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= self._MANY:
            self.flush()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._WAIT, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        lines, self._lines = self._lines, []
        if lines:
            sys.stdout.write(b"".join(lines).decode())
            sys.stdout.flush()

"""Tracing: spans, and the trace context that messages carry in their headers (W3C Trace Context).

It is off until `configure_tracing` is called; while it is off, a call costs one look at a variable.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Headers = Iterable[tuple[str, bytes | None]]
Kind = Literal["internal", "server", "client", "producer", "consumer"]

_KINDS: Final[dict[str, SpanKind]] = {kind.name.lower(): kind for kind in SpanKind}
# A batch links to the traces of so many messages at most: collectors refuse more.
_MAX_LINKS: Final = 128
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class _FromHeaders(Getter[dict[str, str]]):
    def get(self, carrier: dict[str, str], key: str) -> list[str] | None:
        return [carrier[key]] if key in carrier else None

    def keys(self, carrier: dict[str, str]) -> list[str]:
        return list(carrier)


_GETTER: Final = _FromHeaders()
_FIELDS: Final = frozenset({"traceparent", "tracestate"})


class _Tracing:
    """Where spans are sent; by default nowhere."""

    def __init__(self) -> None:
        self.tracer: trace.Tracer | None = None


_tracing = _Tracing()


def configure_tracing(provider: TracerProvider | None) -> None:
    """Send spans to `provider`; None turns tracing off. Call it once a process, before anything starts."""
    _tracing.tracer = None if provider is None else provider.get_tracer("mess-ai")


def tracing_enabled() -> bool:
    """Whether spans are sent anywhere."""
    return _tracing.tracer is not None


@contextmanager
def traced_span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: Context | None = None,
    links: Sequence[SpanContext] = (),
    **attributes: str | int | float | bool,
) -> Iterator[Span | None]:
    """Trace a block as a span, which records an error that leaves the block.

    Args:
        name: The operation: one of few names, without ids.
        kind: The span kind.
        parent: The parent span; the current one if None.
        links: Other spans that caused it.
        attributes: Its attributes; an underscore stands for a dot.
    """
    if _tracing.tracer is None:
        yield None
        return
    facts = {key.replace("_", "."): value for key, value in attributes.items()}
    with _tracing.tracer.start_as_current_span(
        name,
        context=parent,
        kind=_KINDS[kind],
        attributes=facts,
        links=[Link(each) for each in links[:_MAX_LINKS]],
    ) as started:
        yield started


def current_span() -> SpanContext | None:
    """The current span, to link later spans to; None while tracing is off."""
    if _tracing.tracer is None:
        return None
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def trace_headers() -> list[tuple[str, bytes]]:
    """Message headers with the current trace context; empty while tracing is off."""
    if _tracing.tracer is None:
        return []
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items()]


def parent_of(received: Headers) -> Context | None:
    """The span that the headers of a message or request name as parent; None without one, or while tracing is off."""
    if _tracing.tracer is None:
        return None
    told = {
        name.lower(): value.decode("latin-1") for name, value in received if value and name.lower() in _FIELDS
    }
    return _PROPAGATOR.extract(told, context=Context(), getter=_GETTER) if "traceparent" in told else None


def origin_spans(received: Iterable[Headers]) -> list[SpanContext]:
    """The spans that the messages of a batch belong to, each trace once."""
    if _tracing.tracer is None:
        return []
    found: dict[tuple[int, int], SpanContext] = {}
    for each in received:
        if (parent := parent_of(each)) is not None:
            context = trace.get_current_span(parent).get_span_context()
            if context.is_valid:
                found[context.trace_id, context.span_id] = context
    return list(found.values())

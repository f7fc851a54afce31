"""Sends traces to a collector (OpenTelemetry, OTLP over HTTP) where the environment names one."""

import os
from collections.abc import Callable

from mess.cli.console import fail
from streams.contracts import tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# A collector that is away must not delay a stop for longer.
_FLUSH_MILLISECONDS = 2_000


def start_tracing(service: str) -> Callable[[], object]:
    """Start tracing if OTEL_EXPORTER_OTLP_ENDPOINT is set; the SDK reads its other variables itself.

    Args:
        service: Its name, unless OTEL_SERVICE_NAME gives another.

    Returns:
        A function to call before the process ends: it sends the remaining spans, within two seconds.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or _disabled():
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        fail(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and the packages that send traces are not installed.",
            hint="pip install 'mess-ai[tracing]', or unset it.",
        )
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.configure_tracing(provider)
    return lambda: provider.force_flush(_FLUSH_MILLISECONDS)


def _disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"

"""Trace context in headers, and what is left of it where nothing is traced."""

import pytest

from streams.contracts import tracing

pytestmark = pytest.mark.unit

PARENT = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def test_nothing_is_traced_unless_configured() -> None:
    """Blocks have no span, messages no headers, and what comes with headers is not looked at."""
    assert not tracing.tracing_enabled()
    with tracing.traced_span("x", "consumer", mess_events=3) as span:
        assert span is None
        assert tracing.current_span() is None
        assert tracing.trace_headers() == []
    assert tracing.parent_of([PARENT]) is None
    assert tracing.origin_spans([[PARENT]]) == []


class TestOn:
    """With a provider of the SDK."""

    @pytest.fixture(autouse=True)
    def spans(self) -> object:
        """Configure tracing around each test; yields what was exported."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        exporter = memory.InMemorySpanExporter()
        provider = sdk.TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(export.SimpleSpanProcessor(exporter))
        tracing.configure_tracing(provider)
        yield exporter.get_finished_spans
        tracing.configure_tracing(None)

    def test_context_goes_through_headers(self) -> None:
        """What is written under way is read on the other side as the parent."""
        with tracing.traced_span("send", "producer") as sent:
            told = tracing.trace_headers()
        assert sent is not None
        with tracing.traced_span("receive", "consumer", parent=tracing.parent_of(told)) as received:
            assert received is not None
            assert received.get_span_context().trace_id == sent.get_span_context().trace_id

    def test_a_batch_links_to_each_trace_once(self, spans: object) -> None:
        """Messages of one span are one link; broken and missing headers are none; there are 128 at most."""
        batch = [[PARENT], [PARENT], [], [("traceparent", b"\xff broken")], [("traceparent", None)]]
        assert [f"{c.span_id:016x}" for c in tracing.origin_spans(batch)] == ["00f067aa0ba902b7"]
        many = [[("traceparent", b"00-%032x-%016x-01" % (n, n))] for n in range(1, 300)]
        with tracing.traced_span("ingest batch", links=tracing.origin_spans(many), mess_batch_events=299):
            pass
        (span,) = spans()  # type: ignore[operator]
        assert len(span.links) == 128
        assert span.attributes == {"mess.batch.events": 299}

"""Traces through a real broker, a real worker and the API, as a collector gets them."""

import asyncio
import os
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from streams.contracts import tracing
from tests.integration.serving.conftest import serve
from tests.integration.worker.conftest import Line
from tests.integration.worker.over_http import served
from tests.support.polling import until
from tests.support.services import PostgresServer
from tests.support.worker import settle, track_message

# The packages of the extra `tracing`.
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.collector import Collected, Collector, collecting

pytestmark = pytest.mark.integration

TRACKS = 40


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the worker's spans go."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def worker_settings(collector: Collector) -> dict[str, str]:
    """A worker that sends its spans at once."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    """The spans of this process, in which the API runs."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.configure_tracing(provider)
    yield exporter
    tracing.configure_tracing(None)


def trace_header() -> tuple[str, str, str]:
    """A trace id, a span id, and the header that says so."""
    trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
    return trace_id, span_id, f"00-{trace_id}-{span_id}-01"


async def test_an_event_is_followed_to_the_change_feed_and_a_request_to_its_reply(
    line: Line, postgres_server: PostgresServer, collector: Collector, exported: InMemorySpanExporter
) -> None:
    """Batch, flush and publication link to what they come from; a worker's answer is in the caller's own trace."""
    # The first tracks are read back from the store when the engine starts: no flush follows from their batch.
    await _publish(line, range(TRACKS))
    await settle(line.database_url, line.servers)
    _, producer_span, header = trace_header()
    await _publish(line, [TRACKS], header)
    await settle(line.database_url, line.servers)
    (batch,) = await _following(collector, "ingest batch", {producer_span})
    inside = {span.name: span.span_id for span in collector.spans if span.parent == batch.span_id}
    assert inside.keys() == {"decode", "commit tracks"}
    (flush,) = await _following(collector, "flush lists", {inside["commit tracks"]})
    await _following(collector, "publish changes", {flush.span_id})

    trace_id, caller_span, header = trace_header()
    async with serve(served(line, postgres_server)) as api:
        seeds = {"seeds": ["traced/1", "traced/2"], "strategy": "diverse"}

        async def answered() -> bool:
            # The search is loaded a moment after the first track has come.
            reply = await api.post("/recommend", json=seeds, headers={"traceparent": header})
            return reply.status_code == 200

        await until(answered)
    (server, *_) = [span for span in exported.get_finished_spans() if span.name == "POST /recommend"]
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == caller_span
    asks = [span for span in exported.get_finished_spans() if span.name == "ask workers"]
    assert {f"{span.context.trace_id:032x}" for span in asks} == {trace_id}
    asked = {f"{span.context.span_id:016x}" for span in asks}
    await until(lambda: any(span.parent in asked for span in collector.named("answer request")))
    assert {span.trace_id for span in collector.named("answer request")} == {trace_id}


async def _following(collector: Collector, name: str, origins: set[str]) -> list[Collected]:
    """Wait for the spans of a name that link to any of these."""

    def found() -> list[Collected]:
        return [span for span in collector.named(name) if span.links & origins]

    await until(lambda: bool(found()))
    return found()


async def _publish(line: Line, numbers: Iterable[int], header: str | None = None) -> None:
    generator = np.random.default_rng(3)
    producer = AIOKafkaProducer(bootstrap_servers=line.servers)
    await producer.start()
    try:
        deliveries = []
        for number in numbers:
            key, value = track_message(f"traced/{number}", generator.standard_normal(8).astype(np.float32))
            sent = [("traceparent", header.encode())] if header else []
            deliveries.append(await producer.send("track-ingest", key=key, value=value, headers=sent))
        await asyncio.gather(*deliveries)
    finally:
        await producer.stop()

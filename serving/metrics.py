"""Prometheus metrics of the API. Labels are route templates, never paths that callers make up."""

from collections.abc import Callable
from typing import Any

import asyncpg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from serving.recommend.response_cache import ResponseCache
from serving.recommend.track_fragments import TrackFragments
from streams.loop_lag import loop_lag_histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ApiMetrics:
    """One registry with the API's metrics; one object an application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "mess_api_requests",
            "Requests answered; the route is unmatched for paths that are not there.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "mess_api_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "mess_api_requests_in_progress", "Requests being answered.", registry=self.registry
        )
        self._connections = Gauge(
            "mess_api_store_connections",
            "Connections to Postgres: open, idle.",
            ("state",),
            registry=self.registry,
        )
        self._add_access()
        self.connections = Gauge("mess_api_connections", "Connections that are open.", registry=self.registry)
        self.connections_cut = Counter(
            "mess_api_connections_cut",
            "Connections that were cut, or refused with a problem before any path saw them, by why.",
            ("why",),
            registry=self.registry,
        )
        self.loop_lag = loop_lag_histogram("mess_api_loop_lag_seconds", self.registry)
        self._add_requests()
        self._add_memory_and_streams()
        # Looking up a labelled child costs more than counting.
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def _add_access(self) -> None:
        self.refused = Counter(
            "mess_api_refused",
            "Requests that were not let in: key-missing, key-invalid, scope-missing, too-many-requests.",
            ("why",),
            registry=self.registry,
        )
        # Of keys that there are: callers cannot make labels up.
        self.key_requests = Counter(
            "mess_api_key_requests",
            "Requests let in with a key, by its prefix.",
            ("key",),
            registry=self.registry,
        )
        self.keys = Gauge(
            "mess_api_keys",
            "Keys that callers can use; 0 where none is needed.",
            registry=self.registry,
        )

    def _add_requests(self) -> None:
        self.requests_sent = Counter(
            "mess_api_worker_requests", "Requests sent to the workers.", registry=self.registry
        )
        self.requests_repeated = Counter(
            "mess_api_worker_requests_repeated",
            "Requests that a worker did not take, or ended with, and that were tried again.",
            registry=self.registry,
        )
        self.requests_shared = Counter(
            "mess_api_worker_requests_shared",
            "Requests that shared the reply to an identical request in flight.",
            registry=self.registry,
        )
        self.requests_failed = Counter(
            "mess_api_worker_requests_failed",
            "Requests to the workers without a reply, by the problem that was answered.",
            ("problem",),
            registry=self.registry,
        )
        self.requests_refused = Counter(
            "mess_api_worker_requests_refused",
            "Requests that were refused, as the workers could not answer in time.",
            registry=self.registry,
        )
        self._queue_delay = Gauge(
            "mess_api_worker_queue_seconds",
            "Estimated seconds of a request to the workers that is sent now, by their recent answers.",
            registry=self.registry,
        )
        self.replies = Counter(
            "mess_api_worker_replies",
            "Replies of the workers: used, late or broken.",
            ("outcome",),
            registry=self.registry,
        )
        self.reply_seconds = Histogram(
            "mess_api_worker_reply_seconds",
            "Seconds from a request to the workers to their reply.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def _add_memory_and_streams(self) -> None:
        self.reads = Counter(
            "mess_api_reads",
            "Recommendations answered, by where they came from: memory, checked (memory, after a look at the "
            "list's version), lists, bodies, workers, or fallback (memory, as the store was away).",
            ("source",),
            registry=self.registry,
        )
        self._watched: ResponseCache | None = None
        self._reads_from: dict[str, Any] = {}
        self._memory = Gauge(
            "mess_api_memory", "Ready answers in memory: entries, bytes.", ("what",), registry=self.registry
        )
        self._memory_lost = Gauge(
            "mess_api_memory_lost",
            "Ready answers that no longer held (invalidated) or had no room (evicted), since the start.",
            ("why",),
            registry=self.registry,
        )
        self._tracks = Gauge(
            "mess_api_tracks",
            "Tracks in memory, ready for the lists that name them: entries, bytes.",
            ("what",),
            registry=self.registry,
        )
        self._tracks_read = Gauge(
            "mess_api_tracks_read",
            "Tracks that a list named and that were not in memory, or no longer as they are, since the start.",
            registry=self.registry,
        )
        self.streams = Gauge("mess_api_streams", "Streams of events that are open.", registry=self.registry)
        self.streams_ended = Counter(
            "mess_api_streams_ended",
            "Streams of events that ended: gone, too-slow, stalled, stopping and others.",
            ("why",),
            registry=self.registry,
        )
        self.feed_messages = Counter(
            "mess_api_feed_messages", "Messages of the change feed that were read.", registry=self.registry
        )
        self.feed_unreadable = Counter(
            "mess_api_feed_messages_unreadable",
            "Messages of the change feed that a stream passed over, as they are not what the contract says.",
            registry=self.registry,
        )

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request under its route template."""
        method = method if method in _METHODS else "other"
        children = self._children.get((route, method, status))
        if children is None:
            children = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route, method),
            )
            self._children[(route, method, status)] = children
        children[0].inc()
        children[1].observe(seconds)

    def read_from(self, source: str) -> None:
        """Count a recommendation by where it came from."""
        child = self._reads_from.get(source)
        if child is None:
            child = self._reads_from[source] = self.reads.labels(source)
        child.inc()

    def watch_memory(self, memory: ResponseCache, fragments: TrackFragments) -> None:
        """Report what `memory` and `fragments` hold, have lost or read, and have answered, whenever the metrics are read."""
        self._watched = memory
        self._memory.labels("entries").set_function(lambda: len(memory))
        self._memory.labels("bytes").set_function(lambda: memory.bytes)
        self._memory_lost.labels("invalidated").set_function(lambda: memory.invalidated)
        self._memory_lost.labels("evicted").set_function(lambda: memory.evicted)
        self._tracks.labels("entries").set_function(lambda: len(fragments))
        self._tracks.labels("bytes").set_function(lambda: fragments.bytes)
        self._tracks_read.set_function(lambda: fragments.read_count)

    def watch_queue(self, seconds: Callable[[], float]) -> None:
        """Report what a request to the workers would take, whenever the metrics are read."""
        self._queue_delay.set_function(seconds)

    def watch_pool(self, pool: asyncpg.Pool) -> None:
        """Report the connections of `pool` whenever the metrics are read."""
        self._connections.labels("open").set_function(pool.get_size)
        self._connections.labels("idle").set_function(pool.get_idle_size)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        if self._watched is not None:
            # Counted where it costs nothing: most answers come from there.
            hits, self._watched.hits = self._watched.hits, 0
            self.reads.labels("memory").inc(hits)
        return generate_latest(self.registry)

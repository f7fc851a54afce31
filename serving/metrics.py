"""Prometheus metrics of the API. Labels are route templates, never paths that callers make up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from serving.recommend.response_cache import ResponseCache
from serving.recommend.track_fragments import TrackFragments
from streams.generations import GenerationName
from streams.loop_lag import loop_lag_histogram
from streams.metric_set import MetricSet

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class QueuedRequests(Protocol):
    """Requests to the workers."""

    @property
    def queue_seconds(self) -> float:
        """Estimated seconds until one that is sent now is answered."""


@dataclass(frozen=True, slots=True)
class _WatchedParts:
    """What is reported of the generation that serves a space."""

    generation: GenerationName
    pool: asyncpg.Pool
    memory: ResponseCache
    fragments: TrackFragments
    workers: QueuedRequests


class ApiMetrics(MetricSet):
    """One registry with the API's metrics; one object an application."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry(auto_describe=True))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = self._counter(
            "mess_api_requests",
            "Requests answered; the route is unmatched for paths that are not there.",
            route=(),
            method=(),
            status=(),
        )
        self._seconds = self._histogram(
            "mess_api_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            _SECONDS,
            "route",
            "method",
        )
        self.in_progress = self._gauge("mess_api_requests_in_progress", "Requests being answered.")
        self._connections = self._gauge(
            "mess_api_store_connections", "Connections to Postgres: open, idle.", "state"
        )
        self._add_access()
        self.connections = self._gauge("mess_api_connections", "Connections that are open.")
        self.connections_cut = self._counter(
            "mess_api_connections_cut",
            "Connections that were cut, or refused with a problem before any path saw them, by why.",
            why=(),
        )
        self.loop_lag = loop_lag_histogram("mess_api_loop_lag_seconds", self.registry)
        self._add_requests()
        self._add_memory_and_streams()
        self._add_watched()
        # Looking up a labelled child costs more than counting.
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def _add_access(self) -> None:
        self.refused = self._counter(
            "mess_api_refused",
            "Requests that were not let in: key-missing, key-invalid, scope-missing, too-many-requests.",
            why=(),
        )
        # Of keys that there are: callers cannot make labels up.
        self.key_requests = self._counter(
            "mess_api_key_requests", "Requests let in with a key, by its prefix.", key=()
        )
        self.keys = self._gauge("mess_api_keys", "Keys that callers can use; 0 where none is needed.")

    def _add_requests(self) -> None:
        self.requests_sent = self._counter("mess_api_worker_requests", "Requests sent to the workers.")
        self.requests_repeated = self._counter(
            "mess_api_worker_requests_repeated",
            "Requests that a worker did not take, or ended with, and that were tried again.",
        )
        self.requests_shared = self._counter(
            "mess_api_worker_requests_shared",
            "Requests that shared the reply to an identical request in flight.",
        )
        self.requests_failed = self._counter(
            "mess_api_worker_requests_failed",
            "Requests to the workers without a reply, by the problem that was answered.",
            problem=(),
        )
        self.requests_refused = self._counter(
            "mess_api_worker_requests_refused",
            "Requests that were refused, as the workers could not answer in time.",
        )
        self._queue_delay = self._gauge(
            "mess_api_worker_queue_seconds",
            "Estimated seconds of a request to the workers that is sent now, by their recent answers.",
        )
        self.replies = self._counter(
            "mess_api_worker_replies", "Replies of the workers: used, late or broken.", outcome=()
        )
        self.reply_seconds = self._histogram(
            "mess_api_worker_reply_seconds", "Seconds from a request to the workers to their reply.", _SECONDS
        )

    def _add_memory_and_streams(self) -> None:
        self.reads = self._counter(
            "mess_api_reads",
            "Recommendations answered, by where they came from: memory, checked (memory, after a look at the "
            "list's version), lists, bodies, workers, history (lists as they were), or fallback (memory, as the store was away).",
            source=(),
        )
        self._watched: dict[str, _WatchedParts] = {}
        self._reads_from: dict[str, Any] = {}
        self._serving = self._gauge(
            "mess_api_serving_info",
            "1 for the generation of each space that this process reads.",
            "space",
            "generation",
        )
        self._memory = self._gauge("mess_api_memory", "Ready answers in memory: entries, bytes.", "what")
        self._memory_lost = self._gauge(
            "mess_api_memory_lost",
            "Ready answers that no longer held (invalidated) or had no room (evicted), since the generation serves here.",
            "why",
        )
        self._tracks = self._gauge(
            "mess_api_tracks", "Tracks in memory, ready for the lists that name them: entries, bytes.", "what"
        )
        self._tracks_read = self._gauge(
            "mess_api_tracks_read",
            "Tracks that a list named and that were not in memory, or no longer as they are, since the generation serves here.",
        )
        self.streams = self._gauge("mess_api_streams", "Streams of events that are open.")
        self.streams_ended = self._counter(
            "mess_api_streams_ended",
            "Streams of events that ended: gone, too-slow, stalled, stopping and others.",
            why=(),
        )
        self.feed_messages = self._counter(
            "mess_api_feed_messages", "Messages of the change feed that were read."
        )
        self.feed_unreadable = self._counter(
            "mess_api_feed_messages_unreadable",
            "Messages of the change feed that a stream passed over, as they are not what the contract says.",
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

    def _add_watched(self) -> None:
        """Have the gauges report the parts of all spaces together whenever they are read."""

        def total(of: Callable[[_WatchedParts], float]) -> Callable[[], float]:
            return lambda: sum(map(of, self._watched.values()))

        self._connections.labels("open").set_function(total(lambda parts: parts.pool.get_size()))
        self._connections.labels("idle").set_function(total(lambda parts: parts.pool.get_idle_size()))
        self._queue_delay.set_function(
            lambda: max((parts.workers.queue_seconds for parts in self._watched.values()), default=0.0)
        )
        self._memory.labels("entries").set_function(total(lambda parts: len(parts.memory)))
        self._memory.labels("bytes").set_function(total(lambda parts: parts.memory.bytes))
        self._memory_lost.labels("invalidated").set_function(total(lambda parts: parts.memory.invalidated))
        self._memory_lost.labels("evicted").set_function(total(lambda parts: parts.memory.evicted))
        self._tracks.labels("entries").set_function(total(lambda parts: len(parts.fragments)))
        self._tracks.labels("bytes").set_function(total(lambda parts: parts.fragments.bytes))
        self._tracks_read.set_function(total(lambda parts: parts.fragments.read_count))

    def watch(
        self,
        generation: GenerationName,
        pool: asyncpg.Pool,
        memory: ResponseCache,
        fragments: TrackFragments,
        workers: QueuedRequests,
    ) -> None:
        """Report these with those of other spaces whenever the metrics are read, in place of those of the space before.

        Args:
            generation: Whose they are.
            pool: Its connections.
            memory: What it holds, has lost and has answered.
            fragments: What they hold, and have read.
            workers: What a request to them would take.
        """
        self.unwatch(generation.space)
        self._watched[generation.space] = _WatchedParts(generation, pool, memory, fragments, workers)
        self._serving.labels(generation.space, str(generation.number)).set(1)

    def unwatch(self, space: str) -> None:
        """Report nothing of a space any more, but what its memory has answered."""
        before = self._watched.pop(space, None)
        if before is not None:
            self.count_hits(before.memory)
            self._serving.remove(space, str(before.generation.number))

    def count_hits(self, memory: ResponseCache) -> None:
        """Count what a memory has answered since this was called last: counting each answer would cost more."""
        hits, memory.hits = memory.hits, 0
        self.reads.labels("memory").inc(hits)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        for parts in self._watched.values():
            self.count_hits(parts.memory)
        return generate_latest(self.registry)

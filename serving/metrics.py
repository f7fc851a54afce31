"""Prometheus metrics of the API. Labels are route templates, never paths that callers make up."""

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

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One registry with the API's metrics; one object an application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "mess_api_requests",
            "Requests answered.",
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
            "Connections to Postgres.",
            ("state",),
            registry=self.registry,
        )
        # Looking up a labelled child costs more than counting does.
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

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

    def watch_pool(self, pool: asyncpg.Pool) -> None:
        """Report the connections of `pool` whenever the metrics are read."""
        self._connections.labels("open").set_function(pool.get_size)
        self._connections.labels("idle").set_function(pool.get_idle_size)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

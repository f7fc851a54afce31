"""What the recommender measures about itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RecommenderMetrics:
    """The recommender's metrics.

    Args:
        registry: The worker's.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "mess_recommendation_requests",
            "Requests: computed, stored (a kept body), shared (with a computation under way), repeated (the same "
            "request_id), refused (a 4xx problem), failed (a 5xx one)",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("computed", "stored", "shared", "repeated", "refused", "failed"):
            self.requests.labels(outcome)
        self.seconds = Histogram(
            "mess_recommendation_seconds",
            "Seconds from taking a request to its reply being delivered",
            buckets=_SECONDS,
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "mess_recommendation_phase_seconds",
            "Seconds by phase of a computation: read (of the store), answer (by the process that holds the catalogue)",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.interactions = Counter(
            "mess_interactions",
            "Interactions: counted, duplicate, replayed, refused",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("counted", "duplicate", "replayed", "refused"):
            self.interactions.labels(outcome)
        self.bodies = Counter(
            "mess_materialised_bodies",
            "Materialised recommendations: written as they were requested or refreshed; not written as they are withdrawn "
            "(one names a track that has gone) or rejected (Postgres does not take it; a defect that the log tells "
            "of); evicted, for want of room",
            ["reason"],
            registry=registry,
        )
        for reason in ("requested", "refreshed", "withdrawn", "rejected", "evicted"):
            self.bodies.labels(reason)
        self._add_gauges(registry)

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        self.popularity_version = Gauge(
            "mess_popularity_version", "Version of the popularity in use", registry=registry
        )

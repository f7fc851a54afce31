"""What the recommender measures about itself."""

from prometheus_client import CollectorRegistry

from streams.metric_set import MetricSet

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RecommenderMetrics(MetricSet):
    """The recommender's metrics.

    Args:
        registry: The worker's.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.requests = self._counter(
            "mess_recommendation_requests",
            "Requests: computed, stored (a kept body), shared (with a computation under way), repeated (the same "
            "request_id), refused (a 4xx problem), failed (a 5xx one), left (to the generation that serves)",
            outcome=("computed", "stored", "shared", "repeated", "refused", "failed", "left"),
        )
        self.seconds = self._histogram(
            "mess_recommendation_seconds",
            "Seconds from taking a request to its reply being delivered",
            _SECONDS,
        )
        self.phase_seconds = self._histogram(
            "mess_recommendation_phase_seconds",
            "Seconds by phase of a computation: read (of the store), answer (by the process that holds the catalogue)",
            _SECONDS,
            "phase",
        )
        self.interactions = self._counter(
            "mess_interactions",
            "Interactions: counted, duplicate, replayed, refused",
            outcome=("counted", "duplicate", "replayed", "refused"),
        )
        self.bodies = self._counter(
            "mess_materialised_bodies",
            "Materialised recommendations: written as they were requested or refreshed; not written as they are withdrawn "
            "(one names a track that has gone) or rejected (Postgres does not take it; a defect that the log tells "
            "of); evicted, for want of room",
            reason=("requested", "refreshed", "withdrawn", "rejected", "evicted"),
        )

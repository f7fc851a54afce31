"""What a worker measures about itself."""

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class WorkerMetrics:
    """A worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = Counter(
            "mess_ingest_events",
            "Events of track-ingest by what became of them",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("upserted", "deleted", "unknown_delete", "superseded", "replayed", "refused"):
            self.events.labels(outcome)
        self.future_events = Counter(
            "mess_future_events",
            "Accepted events whose time is more than a minute ahead of this worker's clock",
            registry=registry,
        )
        self.dead_letters = Counter(
            "mess_dead_letters", "Events sent to dead-letters", ["topic", "reason"], registry=registry
        )
        self.batch_events = Histogram(
            "mess_ingest_batch_events", "Events in a micro-batch", buckets=_SIZES, registry=registry
        )
        self.phase_seconds = Histogram(
            "mess_ingest_phase_seconds", "Time by phase", ["phase"], buckets=_SECONDS, registry=registry
        )
        self.lists_written = Counter("mess_lists_written", "Neighbour lists written", registry=registry)
        self.changes_published = Counter(
            "mess_changes_published", "Messages sent to the change feed", ["kind"], registry=registry
        )
        self.freshness = Histogram(
            "mess_list_freshness_seconds",
            "From an event's time to its lists being committed, of events not older than ten minutes",
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "mess_transient_failures", "Failures that were tried again", ["system"], registry=registry
        )
        self.consumed = Gauge("mess_consumed_offset", "Next offset to read", ["partition"], registry=registry)
        self.absorbed = Gauge(
            "mess_absorbed_offset",
            "Offset below which stored lists are up to date",
            ["partition"],
            registry=registry,
        )
        self.tracks = Gauge("mess_engine_tracks", "Tracks the engine holds", registry=registry)
        self.waiting_refills = Gauge(
            "mess_engine_waiting_refills", "Lists too short that wait to be completed", registry=registry
        )
        self.unverified = Gauge(
            "mess_engine_unverified_tracks",
            "Tracks whose lists have yet to be compared with the whole catalogue",
            registry=registry,
        )
        self.refilled = Gauge(
            "mess_engine_refilled_lists", "Lists completed since the start", registry=registry
        )
        self.engine_bytes = Gauge("mess_engine_bytes", "Bytes held by the engine's arrays", registry=registry)
        self.engine_seconds = Gauge(
            "mess_engine_seconds", "Engine time by phase since the start", ["phase"], registry=registry
        )
        self.active = Gauge("mess_worker_active", "1 while this worker maintains lists", registry=registry)
        self.owned_partitions = Gauge(
            "mess_owned_partitions", "Partitions of track-ingest that are this worker's", registry=registry
        )
        self.followed = Gauge(
            "mess_followed_offset",
            "Offset below which another worker's partition has been applied here",
            ["partition"],
            registry=registry,
        )
        self._add_sampled()
        self._add_search()
        self._add_process()

    def _add_process(self) -> None:
        self.lag = Gauge(
            "mess_ingest_lag_events",
            "Events of this worker's partitions that are not in the store yet, by the last fetches",
            registry=self.registry,
        )
        self.resident = Gauge(
            "mess_process_resident_bytes",
            "Resident memory of the worker's own process and of those it has spawned; memory they share counts in each",
            ["process"],
            registry=self.registry,
        )
        self.resident.labels("worker").set_function(lambda: psutil.Process().memory_info().rss)
        self.resident.labels("spawned").set_function(_spawned_bytes)

    def _add_search(self) -> None:
        """What the search process says of itself; see `streams.maintenance.searching`."""

        def gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, meaning, labels, registry=self.registry)

        self.search_tracks = gauge("mess_search_tracks", "Tracks that can be searched")
        self.search_index_tracks = gauge("mess_search_index_tracks", "Tracks in the index when it was built")
        self.search_index_age = gauge(
            "mess_search_index_age_seconds", "Since the catalogue was as the index has it"
        )
        self.search_newer = gauge("mess_search_newer_tracks", "Tracks scanned as the index lacks them")
        self.search_tombstones = gauge("mess_search_tombstones", "Rows of the index that count no more")
        self.search_builds = gauge("mess_search_index_builds", "Indexes built since the start")
        self.search_failures = gauge(
            "mess_search_index_failures", "Indexes that could not be built, or ended, since the start"
        )
        self.search_bytes = gauge("mess_search_bytes", "Bytes held by the search")
        self.search_seconds = gauge("mess_search_seconds", "Search time by phase since the start", ("phase",))

    def _add_sampled(self) -> None:
        """What the sampler finds; see `streams.maintenance.sampler`."""
        self.sampled_recall = Gauge(
            "mess_sampled_recall",
            "Mean recall of the stored lists sampled last, against lists computed afresh",
            ["at"],
            registry=self.registry,
        )
        self.sampled_churn = Gauge(
            "mess_sampled_churn",
            "Mean share of a stored list's entries that were replaced within a minute",
            ["at"],
            registry=self.registry,
        )
        self.sampled_lists = Counter(
            "mess_sampled_lists",
            "Stored lists sampled: right, late (their change is on its way) or wrong",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("right", "late", "wrong"):
            self.sampled_lists.labels(outcome)
        self.sampled_age = Histogram(
            "mess_sampled_list_age_seconds",
            "Time since sampled lists were written",
            buckets=(1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800),
            registry=self.registry,
        )


def _spawned_bytes() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total

"""A worker's metrics."""

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.loop_lag import loop_lag_histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class WorkerMetrics:
    """A worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.loop_lag = loop_lag_histogram("mess_worker_loop_lag_seconds", registry)
        self.events = Counter(
            "mess_ingest_events",
            "Events of track-ingest: upserted, deleted, unknown_delete (nothing to delete), superseded (the track "
            "has a later event), replayed (consumed before), refused",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("upserted", "deleted", "unknown_delete", "superseded", "replayed", "refused"):
            self.events.labels(outcome)
        self.misplaced_events = Counter(
            "mess_misplaced_events",
            "Events of track-ingest in another partition than the one that their key belongs to",
            registry=registry,
        )
        self.unread_cells = Counter(
            "mess_metadata_cells_unread",
            "Metadata values of accepted events that could not be read, and are kept in extra.raw",
            ["field"],
            registry=registry,
        )
        self.future_events = Counter(
            "mess_future_events",
            "Accepted events whose time is more than a minute ahead of this worker's clock: a producer's clock is wrong, "
            "or this machine's",
            registry=registry,
        )
        self.dead_letters = Counter(
            "mess_dead_letters", "Events sent to dead-letters", ["topic", "reason"], registry=registry
        )
        self.batch_events = Histogram(
            "mess_ingest_batch_events", "Events in a micro-batch", buckets=_SIZES, registry=registry
        )
        self.phase_seconds = Histogram(
            "mess_ingest_phase_seconds",
            "Seconds by phase of a batch: decode, commit (tracks and offsets), neighbours (the engine), flush (lists)",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.lists_written = Counter(
            "mess_lists_written", "Neighbour lists written to the store", registry=registry
        )
        self.changes_published = Counter(
            "mess_changes_published",
            "Messages on the change feed: list, tombstone",
            ["kind"],
            registry=registry,
        )
        self.map_layouts = Counter(
            "mess_map_layouts", "Layouts of the whole map: done, failed", ["outcome"], registry=registry
        )
        for outcome in ("done", "failed"):
            self.map_layouts.labels(outcome)
        self.freshness = Histogram(
            "mess_list_freshness_seconds",
            "Seconds from an event's time to its lists being committed; events older than ten minutes are left out",
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "mess_transient_failures",
            "Attempts that failed and were repeated: postgres, kafka",
            ["system"],
            registry=registry,
        )
        self.feed_pending = Gauge(
            "mess_feed_pending_lists",
            "Changed lists that are still to be published; from 200,000 on, no list is flushed",
            registry=registry,
        )
        self.feed_bytes = Gauge(
            "mess_feed_pending_bytes", "Bytes held for lists that are yet to be told of", registry=registry
        )
        self.consumed = Gauge(
            "mess_consumed_offset",
            "Next offset to read: everything below is in the store",
            ["partition"],
            registry=registry,
        )
        self.absorbed = Gauge(
            "mess_absorbed_offset",
            "Offset below which the stored lists have the effect of everything",
            ["partition"],
            registry=registry,
        )
        self.tracks = Gauge("mess_engine_tracks", "Tracks whose vectors the engine holds", registry=registry)
        self.waiting_refills = Gauge(
            "mess_engine_waiting_refills",
            "Lists that deletes have made too short and that wait to be completed",
            registry=registry,
        )
        self.unverified = Gauge(
            "mess_engine_unverified_tracks",
            "Tracks of a large catalogue whose lists have yet to be compared with all of it; 0 is the aim at rest",
            registry=registry,
        )
        self.refilled = Gauge(
            "mess_engine_refilled_lists", "Lists completed since the start", registry=registry
        )
        self.engine_bytes = Gauge("mess_engine_bytes", "Bytes held by the engine's arrays", registry=registry)
        self.engine_compiled = Gauge(
            "mess_engine_compiled",
            "1 while the engine uses its compiled inner loops: without them, no catalogue is in large mode",
            registry=registry,
        )
        self.engine_compile_failed = Gauge(
            "mess_engine_compile_failed",
            "1 while the inner loops could not be compiled; the log says why",
            registry=registry,
        )
        self.engine_seconds = Gauge(
            "mess_engine_seconds",
            "Seconds the engine has worked since its start, by phase",
            ["phase"],
            registry=registry,
        )
        self.active = Gauge("mess_worker_active", "1 while this worker holds partitions", registry=registry)
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
            "Events of this worker's partitions that are not in the store yet; the broker is asked once a second while "
            "there are any",
            registry=self.registry,
        )
        self.resident = Gauge(
            "mess_process_resident_bytes",
            "Resident memory of the worker's own process (worker) and of the engine's and search's (spawned); memory they "
            "share counts in each",
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
        self.search_index_tracks = gauge(
            "mess_search_index_tracks",
            "Tracks in the approximate index when it was built; 0 while there is none",
        )
        self.search_index_age = gauge(
            "mess_search_index_age_seconds",
            "Seconds since the catalogue was as the index has it; NaN while there is none",
        )
        self.search_newer = gauge(
            "mess_search_newer_tracks", "Tracks that the index lacks, which are scanned"
        )
        self.search_tombstones = gauge("mess_search_tombstones", "Rows of the index that count no more")
        self.search_builds = gauge("mess_search_index_builds", "Indexes built since the start")
        self.search_failures = gauge(
            "mess_search_index_failures",
            "Indexes that could not be built, or whose process has ended: a warning in the log says why, and another "
            "is built",
        )
        self.search_bytes = gauge("mess_search_bytes", "Bytes held for search")
        self.search_queue = gauge(
            "mess_search_queue_bytes",
            "Bytes of batches that wait for the search process; from 128 MiB on, the engine waits with them",
        )
        self.search_seconds = gauge(
            "mess_search_seconds", "Seconds the search has worked since its start, by phase", ("phase",)
        )

    def _add_sampled(self) -> None:
        """What the sampler finds; see `streams.maintenance.sampler`."""
        self.sampled_recall = Gauge(
            "mess_sampled_recall",
            "Mean recall@10 and @50 of the 500 stored lists sampled last, against lists computed afresh: as readers have "
            "them, so also below 1 while changes are on their way",
            ["at"],
            registry=self.registry,
        )
        self.sampled_churn = Gauge(
            "mess_sampled_churn",
            "Mean share of a list's first 10 and 50 that was replaced within a minute",
            ["at"],
            registry=self.registry,
        )
        self.sampled_lists = Counter(
            "mess_sampled_lists",
            "Stored lists sampled: right, late (they differ, and a change is on its way), wrong (they differ, and none "
            "is): wrong must stay 0",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("right", "late", "wrong"):
            self.sampled_lists.labels(outcome)
        self.sampled_age = Histogram(
            "mess_sampled_list_age_seconds",
            "Seconds since sampled lists were written",
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

"""A worker's metrics."""

import psutil
from prometheus_client import CollectorRegistry

from streams.loop_lag import loop_lag_histogram
from streams.metric_set import MetricSet

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class WorkerMetrics(MetricSet):
    """A worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.loop_lag = loop_lag_histogram("mess_worker_loop_lag_seconds", self.registry)
        self.events = self._counter(
            "mess_ingest_events",
            "Events of track-ingest: upserted, deleted, unknown_delete (nothing to delete), superseded (the track "
            "has a later event), replayed (consumed before), refused",
            outcome=("upserted", "deleted", "unknown_delete", "superseded", "replayed", "refused"),
        )
        self.misplaced_events = self._counter(
            "mess_misplaced_events",
            "Events of track-ingest in another partition than the one that their key belongs to",
        )
        self.unread_cells = self._counter(
            "mess_metadata_cells_unread",
            "Metadata values of accepted events that could not be read, and are kept in extra.raw",
            field=(),
        )
        self.future_events = self._counter(
            "mess_future_events",
            "Accepted events whose time is more than a minute ahead of this worker's clock: a producer's clock is wrong, "
            "or this machine's",
        )
        self.dead_letters = self._counter(
            "mess_dead_letters", "Events sent to dead-letters", topic=(), reason=()
        )
        self.batch_events = self._histogram("mess_ingest_batch_events", "Events in a micro-batch", _SIZES)
        self.phase_seconds = self._histogram(
            "mess_ingest_phase_seconds",
            "Seconds by phase of a batch: decode, commit (tracks and offsets), neighbours (the engine), flush (lists)",
            _SECONDS,
            "phase",
        )
        self.lists_written = self._counter("mess_lists_written", "Neighbour lists written to the store")
        self.changes_published = self._counter(
            "mess_changes_published", "Messages on the change feed: list, tombstone", kind=()
        )
        self.map_layouts = self._counter(
            "mess_map_layouts", "Layouts of the whole map: done, failed", outcome=("done", "failed")
        )
        self.freshness = self._histogram(
            "mess_list_freshness_seconds",
            "Seconds from an event's time to its lists being committed; events older than ten minutes are left out",
            _SECONDS,
        )
        self.retries = self._counter(
            "mess_transient_failures", "Attempts that failed and were repeated: postgres, kafka", system=()
        )
        self.feed_pending = self._gauge(
            "mess_feed_pending_lists",
            "Changed lists that are still to be published; from 200,000 on, no list is flushed",
        )
        self.feed_bytes = self._gauge(
            "mess_feed_pending_bytes", "Bytes held for lists that are yet to be told of"
        )
        self.consumed = self._gauge(
            "mess_consumed_offset", "Next offset to read: everything below is in the store", "partition"
        )
        self.absorbed = self._gauge(
            "mess_absorbed_offset",
            "Offset below which the stored lists have the effect of everything",
            "partition",
        )
        self.tracks = self._gauge("mess_engine_tracks", "Tracks whose vectors the engine holds")
        self.waiting_refills = self._gauge(
            "mess_engine_waiting_refills",
            "Lists that deletes have made too short and that wait to be completed",
        )
        self.unverified = self._gauge(
            "mess_engine_unverified_tracks",
            "Tracks of a large catalogue whose lists have yet to be compared with all of it; 0 is the aim at rest",
        )
        self.engine_bytes = self._gauge("mess_engine_bytes", "Bytes held by the engine's arrays")
        self.engine_compiled = self._gauge(
            "mess_engine_compiled",
            "1 while the engine uses its compiled inner loops: without them, no catalogue is in large mode",
        )
        self.engine_compile_failed = self._gauge(
            "mess_engine_compile_failed", "1 while the inner loops could not be compiled; the log says why"
        )
        self.engine_seconds = self._gauge(
            "mess_engine_seconds", "Seconds the engine has worked since its start, by phase", "phase"
        )
        self.active = self._gauge("mess_worker_active", "1 while this worker holds partitions")
        self.owned_partitions = self._gauge(
            "mess_owned_partitions", "Partitions of track-ingest that are this worker's"
        )
        self._add_sampled()
        self._add_search()
        self._add_process()

    def _add_process(self) -> None:
        self.lag = self._gauge(
            "mess_ingest_lag_events",
            "Events of this worker's partitions that are not in the store yet; the broker is asked once a second while "
            "there are any",
        )
        self.resident = self._gauge(
            "mess_process_resident_bytes",
            "Resident memory of the worker's own process (worker) and of the engine's and search's (spawned); memory they "
            "share counts in each",
            "process",
        )
        self.resident.labels("worker").set_function(lambda: psutil.Process().memory_info().rss)
        self.resident.labels("spawned").set_function(_spawned_bytes)

    def _add_search(self) -> None:
        """What the search process says of itself; see `streams.maintenance.searching`."""
        self.search_index_tracks = self._gauge(
            "mess_search_index_tracks",
            "Tracks in the approximate index when it was built; 0 while there is none",
        )
        self.search_index_age = self._gauge(
            "mess_search_index_age_seconds",
            "Seconds since the catalogue was as the index has it; NaN while there is none",
        )
        self.search_newer = self._gauge(
            "mess_search_newer_tracks", "Tracks that the index lacks, which are scanned"
        )
        self.search_failures = self._gauge(
            "mess_search_index_failures",
            "Builds of an index that failed: a warning in the log says why, and another is begun",
        )
        self.search_bytes = self._gauge("mess_search_bytes", "Bytes held for search")
        self.search_queue = self._gauge(
            "mess_search_queue_bytes",
            "Bytes of batches that wait for the search process; from 128 MiB on, the engine waits with them",
        )
        self.search_seconds = self._gauge(
            "mess_search_seconds", "Seconds the search has worked since its start, by phase", "phase"
        )

    def _add_sampled(self) -> None:
        """What the sampler finds; see `streams.maintenance.sampler`."""
        self.sampled_recall = self._gauge(
            "mess_sampled_recall",
            "Mean recall@10 and @50 of the stored lists sampled within the last minute, against lists computed afresh: as "
            "readers have them, so also below 1 while changes are on their way; NaN where none was sampled",
            "at",
        )
        self.sampled_churn = self._gauge(
            "mess_sampled_churn",
            "Mean share of a list's first 10 and 50 that was replaced within a minute, of the lists looked at again within "
            "the last; NaN where none was",
            "at",
        )
        self.sampled_lists = self._counter(
            "mess_sampled_lists",
            "Stored lists sampled: right, late (they differ, and a change is on its way), wrong (they differ, and none "
            "is): wrong must stay 0",
            outcome=("right", "late", "wrong"),
        )
        self.sampled_age = self._histogram(
            "mess_sampled_list_age_seconds",
            "Seconds since sampled lists were written",
            (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800),
        )


def _spawned_bytes() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total

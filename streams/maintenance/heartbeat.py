"""A worker's heartbeats in the store, and the figures in them, for operators."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import asyncpg
from prometheus_client import Counter, Gauge, Histogram

from store import lives
from store.errors import StoreUnavailableError
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics

# Seconds between heartbeats; health reports look back 15 seconds.
BEAT_SECONDS = 5.0


class DuplicateNameError(Exception):
    """Another process has this worker's name, and with it its partitions."""


async def keep_beating(
    pool: asyncpg.Pool,
    owner: str,
    ownership: Ownership,
    metrics: WorkerMetrics,
    stalled_for: Callable[[], float],
) -> NoReturn:
    """Write heartbeats to the store, for ever.

    Args:
        pool: The store.
        owner: The worker, as it claims partitions in this life.
        ownership: What it holds.
        metrics: Its figures.
        stalled_for: For how many seconds events have waited with none consumed.

    Raises:
        DuplicateNameError: Another process has started under this worker's name.
    """
    figures = HeartbeatFigures(metrics)
    while True:
        with contextlib.suppress(StoreUnavailableError):
            alive = await lives.record_heartbeat(
                pool,
                owner,
                owning=bool(ownership.partitions),
                stalled_seconds=stalled_for(),
                figures=figures.take(),
            )
            if not alive:
                raise DuplicateNameError(
                    f"another worker has started as {owner.rpartition('/')[0]}; give each a MESS_WORKER_NAME of its own"
                )
        await asyncio.sleep(BEAT_SECONDS)


class HeartbeatFigures:
    """Sums up a worker's metrics since it last did.

    Args:
        metrics: The worker's own.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._before: dict[float, float] = {}

    def take(self) -> Mapping[str, Any]:
        """The figures now, as JSON.

        `freshness_seconds` has the bounds below which half and 99 % of the events since the last call had their lists
        committed, by the histogram's buckets; it is None where there were none, as recall is where nothing has been
        sampled lately.
        """
        buckets = _buckets(self._metrics.freshness)
        since = {bound: count - self._before.get(bound, 0.0) for bound, count in buckets.items()}
        self._before = buckets
        return {
            "freshness_seconds": {"p50": _quantile(since, 0.5), "p99": _quantile(since, 0.99)},
            "recall": {"at": 50, "mean": _known(_labelled(self._metrics.sampled_recall, "at").get("50"))},
            "wrong_lists": int(_labelled(self._metrics.sampled_lists, "outcome").get("wrong", 0)),
            "dead_letters": _by_reason(self._metrics.dead_letters),
        }


def _buckets(histogram: Histogram) -> dict[float, float]:
    """Observations at or below each bound, in ascending order of bounds."""
    samples = [s for metric in histogram.collect() for s in metric.samples if s.name.endswith("_bucket")]
    return {float(s.labels["le"]): s.value for s in samples}


def _quantile(counts: Mapping[float, float], share: float) -> float | None:
    """The lowest bound at or below which `share` of the observations are; None above all bounds, and of none."""
    total = max(counts.values(), default=0.0)
    if total <= 0:
        return None
    bound = next(bound for bound, count in counts.items() if count >= share * total)
    return None if bound == float("inf") else bound


def _labelled(metric: Gauge | Counter, label: str) -> dict[str, float]:
    samples = [s for each in metric.collect() for s in each.samples if not s.name.endswith("_created")]
    return {s.labels[label]: s.value for s in samples}


def _known(value: float | None) -> float | None:
    """A gauge's value, None instead of NaN, which JSON lacks."""
    return None if value is None or math.isnan(value) else value


def _by_reason(counter: Counter) -> dict[str, int]:
    totals: dict[str, int] = {}
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                reason = sample.labels["reason"]
                totals[reason] = totals.get(reason, 0) + int(sample.value)
    return totals

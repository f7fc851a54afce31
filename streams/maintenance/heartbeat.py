"""The figures in a worker's heartbeat, for operators."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from streams.metrics import WorkerMetrics


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
        committed, by the histogram's buckets; it and what the sampler has not looked at yet is None.
        """
        buckets = _buckets(self._metrics.freshness)
        since = {bound: count - self._before.get(bound, 0.0) for bound, count in buckets.items()}
        self._before = buckets
        return {
            "freshness_seconds": {"p50": _quantile(since, 0.5), "p99": _quantile(since, 0.99)},
            "recall": {"at": 50, "mean": _labelled(self._metrics.sampled_recall, "at").get("50")},
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


def _by_reason(counter: Counter) -> dict[str, int]:
    totals: dict[str, int] = {}
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                reason = sample.labels["reason"]
                totals[reason] = totals.get(reason, 0) + int(sample.value)
    return totals

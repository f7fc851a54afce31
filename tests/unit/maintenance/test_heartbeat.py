"""What a worker says of its work in its heartbeat."""

import json

import pytest

from streams.maintenance.heartbeat import HeartbeatFigures
from streams.metrics import WorkerMetrics

pytestmark = pytest.mark.unit


def test_a_worker_that_has_done_nothing_says_so() -> None:
    """Without events and samples there is nothing to say of freshness and recall."""
    figures = HeartbeatFigures(WorkerMetrics()).take()
    assert figures == {
        "freshness_seconds": {"p50": None, "p99": None},
        "recall": {"at": 50, "mean": None},
        "wrong_lists": 0,
        "dead_letters": {},
    }
    assert json.loads(json.dumps(figures)) == figures


def test_freshness_is_of_the_events_since_the_last_call() -> None:
    """Quantiles are bounds of the histogram's buckets, of what came since; above all bounds there is none."""
    metrics = WorkerMetrics()
    figures = HeartbeatFigures(metrics)
    for seconds in [0.04] * 98 + [0.3] * 2:
        metrics.freshness.observe(seconds)
    assert figures.take()["freshness_seconds"] == {"p50": 0.05, "p99": 0.5}
    metrics.freshness.observe(3)
    assert figures.take()["freshness_seconds"] == {"p50": 5, "p99": 5}
    metrics.freshness.observe(500)
    assert figures.take()["freshness_seconds"] == {"p50": None, "p99": None}


def test_dead_letters_are_by_reason_over_all_topics() -> None:
    """Reasons of different topics are added up; recall is that at 50."""
    metrics = WorkerMetrics()
    metrics.dead_letters.labels("track-ingest", "not_finite").inc(2)
    metrics.dead_letters.labels("track-interactions", "not_finite").inc()
    metrics.dead_letters.labels("track-ingest", "too_large").inc()
    metrics.sampled_recall.labels(10).set(0.5)
    metrics.sampled_recall.labels(50).set(0.75)
    metrics.sampled_lists.labels("wrong").inc()
    figures = HeartbeatFigures(metrics).take()
    assert figures["dead_letters"] == {"not_finite": 3, "too_large": 1}
    assert figures["recall"] == {"at": 50, "mean": 0.75}
    assert figures["wrong_lists"] == 1


def test_recall_that_nobody_measured_lately_is_not_said() -> None:
    """Where the sampler's window is empty the gauge is NaN, which JSON lacks: the figure is null."""
    metrics = WorkerMetrics()
    metrics.sampled_recall.labels(50).set(float("nan"))
    assert HeartbeatFigures(metrics).take()["recall"] == {"at": 50, "mean": None}

"""Prometheus metrics of a process, made in one registry."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class MetricSet:
    """Makes metrics in one registry; a subclass keeps them as attributes.

    A label is a keyword argument with the values that are known: a metric with one label starts with a sample for each of
    them, at 0, so that an alert can tell "never yet" from "not there".

    Args:
        registry: Where the metrics are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def _counter(self, name: str, meaning: str, **labels: Sequence[str]) -> Counter:
        counter = Counter(name, meaning, list(labels), registry=self.registry)
        if len(labels) == 1:
            for value in next(iter(labels.values())):
                counter.labels(value)
        return counter

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)

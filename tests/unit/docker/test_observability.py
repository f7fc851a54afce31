"""Dashboards and alerts name what is measured, and each alert its runbook."""

import importlib.util
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from serving.metrics import ApiMetrics
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from tests.unit.docker.files import DOCKER, ROOT, read_yaml

pytestmark = pytest.mark.unit

ALERTS = [
    rule for group in read_yaml(DOCKER / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]
]
DASHBOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
# What Prometheus adds itself.
OWN = {"up"}
WORDS = {
    "sum", "min", "max", "avg", "count", "by", "without", "on", "ignoring", "and", "or", "unless", "absent", "rate",
    "increase", "resets", "changes", "histogram_quantile", "le",
}  # fmt: skip


def builder() -> ModuleType:
    """docker/grafana/build.py, which is no package."""
    spec = importlib.util.spec_from_file_location("grafana_build", DOCKER / "grafana" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415 - dataclasses look their module up

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measured() -> set[str]:
    """The name of every series that worker and API show."""
    names = set(OWN)
    worker = WorkerMetrics()
    RecommenderMetrics(worker.registry)
    for registry in (worker.registry, ApiMetrics().registry):
        for family in registry.collect():
            if family.type == "counter":
                names.add(f"{family.name}_total")
            elif family.type == "histogram":
                names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
            else:
                names.add(family.name)
    return names


def metrics_of(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b", bare)) - WORDS


def targets() -> Iterator[tuple[str, str]]:
    """Panels and expressions of all dashboards."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_metrics_are_found_in_an_expression() -> None:
    """The reader of expressions below sees names, and neither functions nor labels nor durations."""
    expression = 'sum by (a, le) (rate(x_total{b=~"c|d"}[5m])) / on (e) count(f == 1) > 0.5'
    assert metrics_of(expression) == {"x_total", "f"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_what_is_measured(rule: dict[str, Any]) -> None:
    """A metric that nobody has would keep an alert silent for ever."""
    names = metrics_of(rule["expr"])
    assert names
    assert names <= measured()


def test_every_panel_names_what_is_measured() -> None:
    """No panel stays empty because a metric was renamed."""
    known = measured()
    unknown = {where: sorted(metrics_of(expression) - known) for where, expression in targets()}
    assert {where: names for where, names in unknown.items() if names} == {}


def test_every_metric_is_on_a_panel_in_an_alert_or_in_the_docs() -> None:
    """A metric that nobody is shown costs code and memory for nothing."""
    texts = [expression for _, expression in targets()]
    texts += [rule["expr"] for rule in ALERTS]
    texts += [page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")]
    named = set(re.findall(r"\bmess_\w+", " ".join(texts)))
    parts = r"_(bucket|sum|count)$"
    ours = {re.sub(parts, "", name) for name in measured() if name.startswith("mess_")}
    assert ours <= {re.sub(parts, "", name) for name in named}


def test_the_dashboards_are_those_of_their_builder() -> None:
    """Nobody has edited them by hand, or forgotten to write them: `python docker/grafana/build.py`."""
    build = builder()
    assert [path.stem for path in DASHBOARDS] == sorted(build.DASHBOARDS)
    for path in DASHBOARDS:
        assert path.read_text(encoding="utf-8") == build.text(path.stem), path


def test_the_dashboards_show_what_is_promised() -> None:
    """Rate, lag, freshness, recall, churn, dead letters, memory; rate, latency, errors and cache of the API."""
    shown = {name for _, expression in targets() for name in metrics_of(expression)}
    assert shown >= {
        "mess_ingest_events_total",
        "mess_ingest_lag_events",
        "mess_list_freshness_seconds_bucket",
        "mess_sampled_recall",
        "mess_sampled_churn",
        "mess_dead_letters_total",
        "mess_process_resident_bytes",
        "mess_api_requests_total",
        "mess_api_request_seconds_bucket",
        "mess_api_reads_total",
        "process_resident_memory_bytes",
    }


def _anchors() -> set[str]:
    """The anchors of the headings of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_where_it_is_told_what_to_do(rule: dict[str, Any]) -> None:
    """A summary, a description, a severity, and a runbook that is there."""
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    page, _, anchor = notes["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    assert anchor in _anchors()


def test_every_container_of_worker_and_api_is_scraped() -> None:
    """By the name of its service, so that scaled ones are, too."""
    jobs = {
        job["job_name"]: job for job in read_yaml(DOCKER / "prometheus" / "prometheus.yml")["scrape_configs"]
    }
    assert jobs["worker"]["dns_sd_configs"][0]["names"] == ["worker"]
    assert jobs["api"]["dns_sd_configs"][0]["names"] == ["api"]
    assert jobs["worker"]["file_sd_configs"] == [{"files": ["nodes/*.yml"]}]

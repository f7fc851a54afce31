# ruff: noqa: INP001 -- a script, run by its path
"""Writes the dashboards beside it: `python docker/grafana/build.py`. A panel is a line here and fifty of JSON there.

A unit test holds the files against this, and each metric named here against the registries of worker and API.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDTH = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True)
class Panel:
    """One graph: what it shows, in which unit, and its series as (PromQL, legend)."""

    title: str
    unit: str
    series: Sequence[tuple[str, str]]
    description: str = ""
    width: int = 8
    maximum: float | None = None
    kind: str = "timeseries"


def quantiles(metric: str, by: str = "", *, where: str = "", legend: str = "") -> list[tuple[str, str]]:
    """p50, p95 and p99 of a histogram."""
    grouping = f"le, {by}" if by else "le"
    return [
        (
            f"histogram_quantile({q}, sum by ({grouping}) (rate({metric}_bucket{where}[$__rate_interval])))",
            f"p{q * 100:.0f} {legend}".strip(),
        )
        for q in (0.5, 0.95, 0.99)
    ]


def rate(metric: str, by: str, *, where: str = "") -> str:
    """The rate of a counter, summed."""
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


PIPELINE = [
    Panel(
        "Ingest",
        "ops",
        [(rate("mess_ingest_events_total", "outcome"), "{{outcome}}")],
        "Events of track-ingest by what became of them.",
    ),
    Panel(
        "Lag",
        "short",
        [("sum(mess_ingest_lag_events)", "all workers"), ("mess_ingest_lag_events", "{{instance}}")],
        "Events that are in Kafka and not in the store yet.",
    ),
    Panel(
        "Freshness",
        "s",
        quantiles("mess_list_freshness_seconds"),
        "From an event's time to its lists being committed: from then on they are served.",
    ),
    Panel(
        "Recall of stored lists",
        "percentunit",
        [("min by (at) (mess_sampled_recall)", "recall@{{at}}")],
        "Of lists sampled within the last minute and computed afresh. Below 1 while changes are on their way.",
        maximum=1,
    ),
    Panel(
        "Sampled lists",
        "ops",
        [(rate("mess_sampled_lists_total", "outcome"), "{{outcome}}")],
        "wrong must stay 0.",
    ),
    Panel(
        "Churn",
        "percentunit",
        [("avg by (at) (mess_sampled_churn)", "first {{at}}")],
        "Share of a list's entries replaced within a minute.",
    ),
    Panel("Lists written", "ops", [("sum(rate(mess_lists_written_total[$__rate_interval]))", "lists")]),
    Panel("Change feed", "ops", [(rate("mess_changes_published_total", "kind"), "{{kind}}")]),
    Panel(
        "Dead letters", "ops", [(rate("mess_dead_letters_total", "topic, reason"), "{{topic}}: {{reason}}")]
    ),
    Panel(
        "Where the time of a batch goes",
        "percentunit",
        [(rate("mess_ingest_phase_seconds_sum", "phase"), "{{phase}}")],
        "Seconds of each phase in a second.",
    ),
    Panel("Events in a micro-batch", "short", quantiles("mess_ingest_batch_events")),
    Panel(
        "Repeated attempts",
        "ops",
        [(rate("mess_transient_failures_total", "system"), "{{system}}")],
        "Postgres or Kafka was away for a moment, or longer.",
    ),
    Panel(
        "Consumed, not absorbed",
        "short",
        [
            (
                "sum by (partition) (max by (partition) (mess_consumed_offset) - on (partition) min by (partition) (mess_absorbed_offset))",
                "partition {{partition}}",
            )
        ],
        "Events that are stored and whose effect is not in the lists yet.",
    ),
    Panel(
        "Engine",
        "short",
        [
            ("max(mess_engine_tracks)", "tracks"),
            ("sum(mess_engine_waiting_refills)", "lists waiting to be completed"),
            ("sum(mess_engine_unverified_tracks)", "tracks waiting to be compared with all"),
        ],
    ),
    Panel(
        "Workers",
        "short",
        [("sum(mess_worker_active)", "active"), ('count(up{job="worker"} == 1)', "running")],
    ),
    Panel(
        "Memory of processes",
        "bytes",
        [
            ("mess_process_resident_bytes", "{{instance}} {{process}}"),
            ('process_resident_memory_bytes{job="api"}', "api {{instance}}"),
            ("mess_engine_bytes", "{{instance}} engine's arrays"),
        ],
        width=16,
    ),
    Panel("Alerts", "", [], width=8, kind="alertlist"),
    Panel(
        "Change feed, to be published",
        "short",
        [
            ("sum(mess_feed_pending_lists)", "lists"),
            ("sum(mess_feed_pending_bytes)", "bytes"),
        ],
        "From 200,000 lists on, no list is flushed.",
    ),
    Panel(
        "Where the time of the engine goes",
        "percentunit",
        [("sum by (phase) (rate(mess_engine_seconds[$__rate_interval]))", "{{phase}}")],
        "Seconds of each phase in a second.",
    ),
    Panel(
        "Compiled loops",
        "short",
        [
            ("min(mess_engine_compiled)", "in use by all"),
            ("max(mess_engine_compile_failed)", "compiler failed"),
        ],
    ),
    Panel("Event loop late, workers", "s", quantiles("mess_worker_loop_lag_seconds")),
    Panel("Age of sampled lists", "s", quantiles("mess_sampled_list_age_seconds")),
    Panel(
        "Map", "ops", [(rate("mess_map_layouts_total", "outcome"), "{{outcome}}")], "Layouts of all tracks."
    ),
]

API = [
    Panel("Requests", "reqps", [(rate("mess_api_requests_total", "route"), "{{route}}")]),
    Panel("Answers by status", "reqps", [(rate("mess_api_requests_total", "status"), "{{status}}")]),
    Panel(
        "Share of failures",
        "percentunit",
        [
            (
                'sum(rate(mess_api_requests_total{status=~"5.."}[$__rate_interval])) / sum(rate(mess_api_requests_total[$__rate_interval]))',
                "5xx",
            ),
            (
                'sum(rate(mess_api_requests_total{status=~"4.."}[$__rate_interval])) / sum(rate(mess_api_requests_total[$__rate_interval]))',
                "4xx",
            ),
        ],
    ),
    Panel("Seconds of a request", "s", quantiles("mess_api_request_seconds")),
    Panel(
        "Seconds of a recommendation, p99",
        "s",
        [
            (
                'histogram_quantile(0.99, sum by (le, route) (rate(mess_api_request_seconds_bucket{route=~"/recommend.*"}[$__rate_interval])))',
                "{{route}}",
            )
        ],
    ),
    Panel("Requests in progress", "short", [("sum(mess_api_requests_in_progress)", "requests")]),
    Panel(
        "Where recommendations come from", "reqps", [(rate("mess_api_reads_total", "source"), "{{source}}")]
    ),
    Panel(
        "Share from memory",
        "percentunit",
        [
            (
                'sum(rate(mess_api_reads_total{source=~"memory|checked"}[$__rate_interval])) / sum(rate(mess_api_reads_total[$__rate_interval]))',
                "hits",
            )
        ],
        maximum=1,
    ),
    Panel(
        "Answers in memory",
        "short",
        [
            ('sum by (what) (mess_api_memory{what="entries"})', "{{what}}"),
            (rate("mess_api_memory_lost", "why"), "lost a second: {{why}}"),
        ],
    ),
    Panel(
        "Requests to workers",
        "reqps",
        [
            ("sum(rate(mess_api_worker_requests_total[$__rate_interval]))", "sent"),
            ("sum(rate(mess_api_worker_requests_shared_total[$__rate_interval]))", "shared"),
            (rate("mess_api_worker_requests_failed_total", "problem"), "failed: {{problem}}"),
        ],
    ),
    Panel("Seconds to a worker's reply", "s", quantiles("mess_api_worker_reply_seconds")),
    Panel("Replies", "ops", [(rate("mess_api_worker_replies_total", "outcome"), "{{outcome}}")]),
    Panel(
        "Streams of events",
        "short",
        [
            ("sum(mess_api_streams)", "open"),
            (rate("mess_api_streams_ended_total", "why"), "ended a second: {{why}}"),
        ],
    ),
    Panel(
        "Change feed read", "ops", [("sum(rate(mess_api_feed_messages_total[$__rate_interval]))", "messages")]
    ),
    Panel("Connections to Postgres", "short", [("sum by (state) (mess_api_store_connections)", "{{state}}")]),
    Panel(
        "Memory",
        "bytes",
        [
            ('process_resident_memory_bytes{job="api"}', "{{instance}}"),
            ('mess_api_memory{what="bytes"}', "answers {{instance}}"),
            ('mess_api_tracks{what="bytes"}', "tracks {{instance}}"),
        ],
    ),
    Panel(
        "Processor time",
        "percentunit",
        [('rate(process_cpu_seconds_total{job="api"}[$__rate_interval])', "{{instance}}")],
    ),
    Panel("Open files", "short", [('process_open_fds{job="api"}', "{{instance}}")]),
    Panel(
        "Refused callers",
        "reqps",
        [(rate("mess_api_refused_total", "why"), "{{why}}")],
        "By key, scope or rate.",
    ),
    Panel(
        "Connections",
        "short",
        [
            ("sum(mess_api_connections)", "open"),
            (rate("mess_api_connections_cut_total", "why"), "cut a second: {{why}}"),
        ],
    ),
    Panel("Event loop late", "s", quantiles("mess_api_loop_lag_seconds")),
    Panel(
        "Feed messages passed over",
        "ops",
        [("sum(rate(mess_api_feed_messages_unreadable_total[$__rate_interval]))", "unreadable")],
    ),
    Panel("Keys", "short", [("max(mess_api_keys)", "usable")]),
    Panel(
        "Tracks read for lists",
        "ops",
        [("sum(rate(mess_api_tracks_read[$__rate_interval]))", "tracks")],
        "Named by a list and not in memory, or changed.",
    ),
    Panel(
        "Generations that are read",
        "short",
        [("count by (space, generation) (mess_api_serving_info)", "{{space}}/{{generation}}")],
        "API processes by the generation that they read of a space; two of one space: a promotion is under way.",
    ),
]

QUESTIONS = [
    Panel(
        "Requests",
        "reqps",
        [(rate("mess_recommendation_requests_total", "outcome"), "{{outcome}}")],
        "What a worker is asked, by what became of it.",
    ),
    Panel("Seconds to a delivered reply", "s", quantiles("mess_recommendation_seconds")),
    Panel(
        "Where the time of an answer goes",
        "percentunit",
        [(rate("mess_recommendation_phase_seconds_sum", "phase"), "{{phase}}")],
        "Seconds of each phase in a second.",
    ),
    Panel(
        "Materialised responses", "ops", [(rate("mess_materialised_bodies_total", "reason"), "{{reason}}")]
    ),
    Panel("Interactions", "ops", [(rate("mess_interactions_total", "outcome"), "{{outcome}}")]),
    Panel(
        "Seconds to a worker, estimated by the API",
        "s",
        [
            ("max(mess_api_worker_queue_seconds)", "queue"),
            (
                "sum(rate(mess_api_worker_requests_refused_total[$__rate_interval]))",
                "refused a second: no answer in time",
            ),
            ("sum(rate(mess_api_worker_requests_repeated_total[$__rate_interval]))", "repeated a second"),
        ],
    ),
    Panel(
        "Search index",
        "short",
        [
            ("max(mess_search_index_tracks)", "tracks in the index"),
            ("max(mess_search_newer_tracks)", "newer tracks, searched exhaustively"),
            ("sum(mess_search_index_failures)", "failed builds"),
        ],
    ),
    Panel("Age of the search index", "s", [("mess_search_index_age_seconds", "{{instance}}")]),
    Panel(
        "Where the time of the search goes",
        "percentunit",
        [("sum by (phase) (rate(mess_search_seconds[$__rate_interval]))", "{{phase}}")],
        "Seconds of each phase in a second.",
    ),
    Panel(
        "Memory of the search",
        "bytes",
        [
            ("mess_search_bytes", "{{instance}} rows and index"),
            ("mess_search_queue_bytes", "{{instance}} batches that wait"),
        ],
    ),
]

DASHBOARDS = {"pipeline": ("Pipeline", PIPELINE), "questions": ("Questions", QUESTIONS), "api": ("API", API)}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
    }
    if panel.kind == "alertlist":
        body["options"] = {
            "viewMode": "list",
            "groupMode": "default",
            "sortOrder": 1,
            "maxItems": 20,
            "stateFilter": {"firing": True, "pending": True, "error": True, "noData": False, "normal": False},
        }
        return body
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "custom": {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": False},
    }
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    body |= {
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"datasource": SOURCE, "refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.series)
        ],
    }
    return body


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard as Grafana reads it from a file."""
    title, panels = DASHBOARDS[name]
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        placed.append(_panel(panel, number, x, y))
        x += panel.width
    return {
        "uid": f"mess-{name}",
        "title": title,
        "tags": ["mess-ai"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["mess-ai"], "title": "Dashboards", "asDropdown": False}],
        "panels": placed,
    }


def text(name: str) -> str:
    """The file of one dashboard."""
    return json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all."""
    for name in DASHBOARDS:
        (HERE / "dashboards" / f"{name}.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()

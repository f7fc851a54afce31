"""A stack's report for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from mess.stack.inspection import StackReport
from mess.stack.topic_lag import TopicLag

UNKNOWN = "unknown"


def render_status(report: StackReport) -> RenderableType:
    """Return the report as tables."""
    topics = "the broker does not answer" if report.topics is None else _topics(report.topics)
    return Group(_facts(report), "", _processes(report), "", topics)


def _facts(report: StackReport) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("API", f"{report.http_url}  ({report.health or 'does not answer'})")
    for problem in report.problems:
        facts.add_row("", problem)
    facts.add_row("broker", f"{report.broker} at {report.bootstrap_servers}")
    facts.add_row("tracks", _count(report.tracks))
    facts.add_row("lists", f"{_count(report.lists)}, of which full: {_count(report.full_lists)}")
    return facts


def _processes(report: StackReport) -> Table:
    table = Table("process", "pid", "state", "memory", box=None, pad_edge=False)
    for process in report.processes:
        state = "runs" if process.alive else "does not run"
        table.add_row(process.name, str(process.pid), state, f"{process.memory_bytes / 2**20:,.0f} MiB")
    return table


def _topics(topics: list[TopicLag]) -> Table:
    table = Table("topic", "partitions", "end offset", "lag", box=None, pad_edge=False)
    for topic in topics:
        table.add_row(topic.topic, str(topic.partitions), f"{topic.end_offset:,}", _lag(topic.lag))
    return table


def _lag(lag: int | None) -> str:
    return "" if lag is None else f"{lag:,}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"

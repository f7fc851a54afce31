"""The report of a stack, as a terminal shows it."""

import io

import pytest
from rich.console import Console

from mess.stack.inspection import ProcessReport, StackReport
from mess.stack.statusview import render_status
from mess.stack.topic_lag import TopicLag

pytestmark = pytest.mark.unit


def shown(report: StackReport) -> list[str]:
    """The lines of a report, with single spaces."""
    out = io.StringIO()
    Console(file=out, width=120).print(render_status(report))
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


REPORT = StackReport(
    running=False,
    http_url="http://127.0.0.1:8000",
    broker="kafka",
    bootstrap_servers="127.0.0.1:41701",
    processes=[
        ProcessReport(name="worker-1", pid=17, alive=True, memory_bytes=300 * 2**20),
        ProcessReport(name="api", pid=18, alive=False, memory_bytes=0),
    ],
    tracks=14_765,
    lists=14_765,
    full_lists=14_000,
    topics=[
        TopicLag(topic="track-ingest", partitions=8, end_offset=14_765, lag=1_200),
        TopicLag(topic="recommendations", partitions=8, end_offset=9, lag=None),
    ],
    health="degraded",
    problems=["consumer_lag: 1,200 events behind"],
)


def test_a_report_names_every_part_and_what_is_wrong() -> None:
    """Processes with their memory, counts, and the lag of each topic that somebody consumes."""
    lines = shown(REPORT)
    assert lines[0] == "API http://127.0.0.1:8000 (degraded)"
    assert "consumer_lag: 1,200 events behind" in lines
    assert "lists 14,765, of which full: 14,000" in lines
    assert "worker-1 17 runs 300 MiB" in lines
    assert "api 18 does not run 0 MiB" in lines
    assert "track-ingest 8 14,765 1,200" in lines
    assert "recommendations 8 9" in lines


def test_what_does_not_answer_is_unknown_and_not_zero() -> None:
    """Neither counts nor lags are made up."""
    silent = {
        "tracks": None,
        "lists": None,
        "full_lists": None,
        "topics": None,
        "health": None,
        "problems": [],
    }
    lines = shown(REPORT.model_copy(update=silent))
    assert lines[0] == "API http://127.0.0.1:8000 (does not answer)"
    assert "tracks unknown" in lines
    assert "lists unknown, of which full: unknown" in lines
    assert lines[-1] == "the broker does not answer"

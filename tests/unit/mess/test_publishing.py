"""A run of a producer in the terminal, from a source in memory; nothing is sent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mess.cli import console
from mess.cli.publishing import PublishRun
from streams.errors import StreamsError
from streams.producers import publisher
from streams.producers.checkpoint import Checkpoint
from streams.producers.items import Position, PublishSummary, Record, RefusedRecord, SourceError, TrackItem
from streams.producers.report import SourceReport

pytestmark = pytest.mark.unit


class Source:
    """Records in memory."""

    def __init__(self, records: list[Record | BaseException]) -> None:
        self.name = "catalogue.jsonl"
        self.total = len(records)
        self.report = SourceReport(notes=["read as UTF-16"])
        self._records = records
        self.resumed_after: Position | None = None

    def records(self, after: Position | None) -> Iterator[Record]:
        self.resumed_after = after
        for record in self._records:
            if isinstance(record, BaseException):
                raise record
            yield record

    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name}


def good(number: int) -> TrackItem:
    """A record that can be sent."""
    return TrackItem(b"a", b"{}", position=number, done=number)


def refused(number: int, reason: str = "zero_vector") -> RefusedRecord:
    """One that cannot."""
    return RefusedRecord(f"line {number}", reason, "it is [all] zeros", f"t/{number}", number, number)


def status_of(run: PublishRun, folder: Path) -> int:
    """The status that a run ends the command with."""
    try:
        run.execute(folder)
    except typer.Exit as end:
        return end.exit_code
    return 0


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


def test_a_dry_run_says_what_would_be_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts on standard output; the reader of a slow pipe that has nothing yet is no record."""
    assert status_of(PublishRun(Source([good(1), None, good(2)]), dry_run=True), tmp_path) == console.OK
    said = capsys.readouterr()
    assert said.out == "2 would be published, 0 refused\n"
    assert said.err == "read as UTF-16\n"


def test_what_is_refused_is_shown_counted_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first ten on the terminal, all in the file, and in the report by reason."""
    records: list[Any] = [good(0), *(refused(n) for n in range(1, 12)), refused(12, "not_finite")]
    rejects, report = tmp_path / "rejects.jsonl", tmp_path / "report.json"
    run = PublishRun(Source(records), rejects=rejects, report=report, dry_run=True)
    assert status_of(run, tmp_path) == console.INCOMPLETE
    said = capsys.readouterr()
    assert said.err.count("zero_vector: it is [all] zeros") == 10
    assert "refused line 1: zero_vector: it is [all] zeros" in said.err
    assert (
        f"These are the first 10 of 12 (zero_vector 11, not_finite 1); all are in {rejects}"
        in said.err.splitlines()
    )
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [each["where"] for each in kept] == [f"line {n}" for n in range(1, 13)]
    assert kept[0] == {
        "where": "line 1",
        "track_id": "t/1",
        "reason": "zero_vector",
        "detail": "it is [all] zeros",
    }
    document = json.loads(report.read_text())
    assert (document["published"], document["refused"], document["dry_run"]) == (1, 12, True)
    assert document["refused_by_reason"] == {"zero_vector": 11, "not_finite": 1}
    assert len(document["first_refused"]) == 10
    assert document["notes"] == ["read as UTF-16"]


def test_without_a_file_for_them_the_option_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where more are refused than are shown."""
    status_of(PublishRun(Source([refused(n) for n in range(11)]), dry_run=True), tmp_path)
    assert "--rejects FILE keeps them all" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "name"), [("rejects", "no/rejects.jsonl"), ("report", "no/report.json")])
def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    """In one line."""
    path = tmp_path / name
    run = PublishRun(Source([good(1)]), dry_run=True, **{option: path})  # type: ignore[arg-type]
    assert status_of(run, tmp_path) == console.CANNOT_RUN
    assert f"mess: {path} cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_source_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says, and no traceback."""
    run = PublishRun(Source([SourceError("x.csv cannot\nbe read")]), dry_run=True)
    assert status_of(run, tmp_path) == console.CANNOT_RUN
    assert capsys.readouterr().err == "mess: x.csv cannot be read\n"


def test_ctrl_c_ends_a_dry_run_with_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status of a command that was interrupted."""
    run = PublishRun(Source([good(1), KeyboardInterrupt()]), dry_run=True)
    assert status_of(run, tmp_path) == console.INTERRUPTED
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("1 would be published, 0 refused\n", "mess: Stopped.")


class Broker:
    """Takes what `publish_all` would send, as far as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stops: bool = False, fails: bool = False) -> None:
        self.stops, self.fails = stops, fails
        monkeypatch.setattr("mess.cli.publishing.publish_all", self.publish_all)

    async def publish_all(
        self, _kafka: object, records: Iterator[Record], *, checkpoint: Checkpoint | None = None, **_: Any
    ) -> PublishSummary:
        summary = PublishSummary(seconds=2.0)
        for record in records:
            assert isinstance(record, TrackItem)
            summary.published, summary.position = summary.published + 1, record.position
            if checkpoint is not None:
                checkpoint.save(record.position)
        if self.fails:
            raise StreamsError("no broker at 127.0.0.1:1")
        summary.interrupted = self.stops
        return summary


def test_the_broker_in_memory_takes_what_the_real_one_takes() -> None:
    """By the names of the real publisher's arguments."""
    told = {"topic", "on_progress", "on_refused", "checkpoint", "stop"}
    assert told <= set(publisher.publish_all.__kwdefaults__)


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says how; the second run reads behind what the first has sent, and leaves no state behind."""
    broker, state = Broker(monkeypatch, stops=True), tmp_path / "state.json"
    first = Source([good(1), good(2)])
    assert status_of(PublishRun(first, state=state), tmp_path) == console.INTERRUPTED
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "mess: Stopped after 2.",
        "  The same command with --resume goes on from there.",
    ]
    broker.stops = False
    second = Source([good(3)])
    assert status_of(PublishRun(second, state=state, resume=True), tmp_path) == console.OK
    assert second.resumed_after == 2
    assert capsys.readouterr().out == "1 published, 0 refused in 2.0 s\n"
    assert not state.exists()


def test_a_broker_that_is_away_says_how_to_look_or_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that has begun can be resumed; one that has not is told where to look."""
    Broker(monkeypatch, fails=True)
    assert status_of(PublishRun(Source([])), tmp_path) == console.CANNOT_RUN
    assert "Is the broker running? `mess status` shows the local stack." in capsys.readouterr().err
    run = PublishRun(Source([good(1)]), state=tmp_path / "state.json")
    assert status_of(run, tmp_path) == console.CANNOT_RUN
    assert "The same command with --resume goes on from there." in capsys.readouterr().err

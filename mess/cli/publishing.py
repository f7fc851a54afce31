"""One run of a producer in the terminal: progress, refusals, how to resume."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import orjson
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from mess.cli import console
from mess.cli.connections import kafka_settings
from streams.errors import StreamsError
from streams.kafka.topics import TRACK_INGEST
from streams.producers.checkpoint import Checkpoint
from streams.producers.items import Position, PublishSummary, Record, RefusedRecord, SourceError, TrackSource
from streams.producers.publisher import publish_all
from streams.settings import KafkaSettings

_SHOWN = 10
_PLAIN_EVERY = 5.0


class PublishRun:
    """One run from a source to the broker.

    Args:
        source: what to publish.
        rejects: file for refused tracks.
        report: file for the report.
        state: state file, to resume later; None: the run cannot be resumed.
        resume: resume from the state file.
        dry_run: validate only.
        verb: what happens to a track, for messages.
        topic: where to.
    """

    def __init__(
        self,
        source: TrackSource,
        *,
        rejects: Path | None = None,
        report: Path | None = None,
        state: Path | None = None,
        resume: bool = False,
        dry_run: bool = False,
        verb: str = "published",
        topic: str = TRACK_INGEST,
    ) -> None:
        self._source = source
        self._rejects_path = rejects
        self._report_path = report
        self._checkpoint = (
            Checkpoint(state, source.fingerprint()) if state is not None and not dry_run else None
        )
        self._resume = resume
        self._dry_run = dry_run
        self._topic = topic
        self._verb = "would be " + verb if dry_run else verb
        self._first: list[RefusedRecord] = []
        self._rejects: IO[bytes] | None = None

    def execute(self, data_dir: Path) -> None:
        """Run, report, and exit with the matching code."""
        console.quiet_libraries()
        kafka = None if self._dry_run else kafka_settings(data_dir)
        try:
            after = self._checkpoint.load() if self._resume and self._checkpoint is not None else None
            with contextlib.ExitStack() as stack:
                if self._rejects_path is not None:
                    self._rejects = stack.enter_context(
                        self._rejects_path.open("ab" if after is not None else "wb")
                    )
                show = stack.enter_context(_progress(self._source, self._verb))
                summary = (
                    self._check(after, show)
                    if kafka is None
                    else asyncio.run(self._publish(kafka, after, show))
                )
        except OSError as exc:
            console.fail(f"{exc.filename or 'a file'} cannot be written: {exc.strerror}")
        except SourceError as exc:
            console.fail(str(exc), hint=self._how_to_resume())
        except StreamsError as exc:
            console.fail(
                str(exc),
                hint=self._how_to_resume() or "Is the broker running? `mess status` shows the local stack.",
            )
        self._tell(summary)

    async def _publish(
        self, kafka: KafkaSettings, after: Position | None, show: Callable[[PublishSummary], None]
    ) -> PublishSummary:
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def interrupt(which: signal.Signals) -> None:
            # A second signal ends the process as it would any other.
            loop.remove_signal_handler(which)
            stop.set()

        for which in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(which, interrupt, which)
        return await publish_all(
            kafka,
            self._source.records(after),
            topic=self._topic,
            on_progress=show,
            on_refused=self._note_refusal,
            checkpoint=self._checkpoint,
            stop=stop,
        )

    def _check(self, after: Position | None, show: Callable[[PublishSummary], None]) -> PublishSummary:
        summary = PublishSummary()
        try:
            for record in self._source.records(after):
                self._count(record, summary)
                show(summary)
        except KeyboardInterrupt:
            summary.interrupted = True
        return summary

    def _count(self, record: Record, summary: PublishSummary) -> None:
        if record is None:
            return
        if isinstance(record, RefusedRecord):
            summary.refused += 1
            summary.reasons[record.reason] += 1
            self._note_refusal(record)
        else:
            summary.published += 1
        summary.done = record.done

    def _note_refusal(self, refusal: RefusedRecord) -> None:
        if len(self._first) < _SHOWN:
            self._first.append(refusal)
        if self._rejects is not None:
            entry = {
                "where": refusal.where,
                "track_id": refusal.track_id,
                "reason": refusal.reason,
                "detail": refusal.detail,
            }
            self._rejects.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def _tell(self, summary: PublishSummary) -> None:
        if self._first:
            self._show_refused(summary)
        for line in self._source.report.lines():
            typer.echo(line, err=True)
        if self._report_path is not None:
            self._write_report(self._report_path, summary)
        rate = f" in {summary.seconds:.1f} s" if summary.seconds else ""
        typer.echo(f"{summary.published:,} {self._verb}, {summary.refused:,} refused{rate}")
        if summary.interrupted:
            where = f" after {summary.position}" if summary.position is not None else ""
            console.fail(f"Stopped{where}.", hint=self._how_to_resume(), code=console.INTERRUPTED)
        if self._checkpoint is not None:
            self._checkpoint.clear()
        if summary.refused:
            raise typer.Exit(console.INCOMPLETE)

    def _write_report(self, path: Path, summary: PublishSummary) -> None:
        document = {
            "source": self._source.name,
            "dry_run": self._dry_run,
            "interrupted": summary.interrupted,
            "published": summary.published,
            "refused": summary.refused,
            "refused_by_reason": dict(summary.reasons),
            "first_refused": [
                {"where": each.where, "track_id": each.track_id, "reason": each.reason, "detail": each.detail}
                for each in self._first
            ],
            **self._source.report.as_dict(),
        }
        try:
            path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        except OSError as exc:
            console.fail(f"{path} cannot be written: {exc.strerror}")

    def _show_refused(self, summary: PublishSummary) -> None:
        table = Table("Refused", "Where", "Why", title_justify="left", box=None, pad_edge=False)
        for refusal in self._first:
            table.add_row(refusal.reason, refusal.where, refusal.detail)
        errors = console.err()
        errors.print(table, markup=False) if errors.is_terminal else self._show_plainly()
        if summary.refused > len(self._first):
            by_reason = ", ".join(f"{reason} {count:,}" for reason, count in summary.reasons.most_common())
            where = (
                f"; all are in {self._rejects_path}"
                if self._rejects_path
                else "; --rejects FILE keeps them all"
            )
            typer.echo(
                f"These are the first {len(self._first)} of {summary.refused:,} ({by_reason}){where}",
                err=True,
            )

    def _show_plainly(self) -> None:
        for refusal in self._first:
            typer.echo(f"refused {refusal.where}: {refusal.reason}: {refusal.detail}", err=True)

    def _how_to_resume(self) -> str | None:
        if self._checkpoint is None or not self._checkpoint.path.exists():
            return None
        return "The same command with --resume goes on from there."


@contextlib.contextmanager
def _progress(source: TrackSource, verb: str) -> Iterator[Callable[[PublishSummary], None]]:
    """Yield a function that shows a summary: a bar on a terminal, else a line now and then."""
    errors = console.err()
    if not errors.is_terminal:
        yield _plain_progress(verb)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(Path(source.name).name, total=source.total, counts="")

        def show(summary: PublishSummary) -> None:
            counts = f"{summary.published:,} {verb}, {summary.refused:,} refused"
            progress.update(task, completed=summary.done, counts=counts)

        yield show


def _plain_progress(verb: str) -> Callable[[PublishSummary], None]:
    last = time.monotonic()

    def show(summary: PublishSummary) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY:
            last = time.monotonic()
            typer.echo(f"{summary.published:,} {verb}, {summary.refused:,} refused so far", err=True)

    return show

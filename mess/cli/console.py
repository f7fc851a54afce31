"""Output of commands, and their failures: one line, a hint, an exit code."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

# Exit codes of every command.
OK = 0
INCOMPLETE = 1
CANNOT_RUN = 2
INTERRUPTED = 130

_PIPED_WIDTH = 160


def out() -> "Console":
    """The console for results: standard output."""
    from rich.console import Console  # noqa: PLC0415 -- what fails by this module needs no more of it

    # A pipe has no width, and its reader wants whole columns.
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_PIPED_WIDTH if piped else None)


def err() -> "Console":
    """The console for progress and notes: standard error."""
    from rich.console import Console  # noqa: PLC0415 -- what fails by this module needs no more of it

    return Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows what is being done, how much of it is done, and how much there is.

    A bar on standard error if that is a terminal, else nothing.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    errors = err()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task(title, total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)


def since(began: float, line: str) -> str:
    """A line behind the seconds since `began`, by `time.monotonic`."""
    return f"{time.monotonic() - began:6.1f}s  {line}"


def fail(message: str, hint: str | None = None, code: int = CANNOT_RUN) -> NoReturn:
    """Print one line on standard error, a hint below it if there is one, and exit.

    Args:
        message: what is wrong, as a sentence; line breaks in it are joined.
        hint: what to do about it.
        code: the exit code.
    """
    typer.echo(f"mess: {' '.join(message.split())}", err=True)
    if hint:
        typer.echo(f"  {' '.join(hint.split())}", err=True)
    raise typer.Exit(code)


def quiet_libraries() -> None:
    """Send log events to standard error in a form for people, and silence the Kafka client's logs."""
    import structlog  # noqa: PLC0415 -- what fails by this module needs no more of it

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )

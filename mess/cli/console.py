"""Output of commands, and their failures: one line, a hint, an exit code."""

import logging
import os
import sys
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
    from rich.console import Console  # noqa: PLC0415 - `mess --help` must not wait for it

    # A pipe has no width, and its reader wants whole columns.
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_PIPED_WIDTH if piped else None)


def err() -> "Console":
    """The console for progress and notes: standard error."""
    from rich.console import Console  # noqa: PLC0415 - `mess --help` must not wait for it

    return Console(stderr=True, highlight=False)


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
    import structlog  # noqa: PLC0415 - `mess --help` must not wait for it

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

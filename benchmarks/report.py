"""Tables and percentiles, alike in every benchmark."""

import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

# Wide enough for the widest table where the output is a file.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def percentiles(seconds: Sequence[float] | np.ndarray) -> tuple[str, str, str]:
    """p50, p90 and p99 in milliseconds."""
    p50, p90, p99 = np.percentile(np.asarray(seconds) * 1000, [50, 90, 99])
    return f"{p50:,.0f}", f"{p90:,.0f}", f"{p99:,.0f}"


def make_table(title: str, *headings: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    made = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        made.add_column(heading, justify="right" if i else "left")
    return made


def print_table(made: Table, note: str = "") -> None:
    """Print a table, and below it what limits the figures."""
    console.print(made)
    if note:
        console.print(note, markup=False)
    console.print()


def mebibytes(count: float) -> str:
    """Bytes as MiB."""
    return f"{count / 2**20:,.0f} MiB"


def progress(text: str) -> None:
    """Say how far a long run is, apart from its tables."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

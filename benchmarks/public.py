"""Protocols that others have made: Big-ANN's streaming runbooks and CANDY, for this engine and eight peers.

    python -m benchmarks.public                       # small ones, some minutes
    python -m benchmarks.public random-xs clustered   # of the published size, by name
    python -m benchmarks.public clustered-1m --only MESS-AI,hnswlib

What the peers need is in requirements-bench.lock, but for DiskANN, which pins an older numpy than it needs:
`pip install --no-deps diskannpy`. Who is not installed has a row that says so.
"""

from typing import Annotated

import numpy as np
import typer

from benchmarks import report
from benchmarks.streaming.contestants import CONTESTANTS
from benchmarks.streaming.protocols import PROTOCOLS, QUICK_PROTOCOLS
from benchmarks.streaming.running import ProtocolResult, play_protocol

ALL = {**QUICK_PROTOCOLS, **PROTOCOLS}


def _row(result: ProtocolResult) -> list[str]:
    if not result.recall or not result.rows:
        return [result.name, *("",) * 8, result.failure or "nothing was done"]
    p50, p99 = np.percentile(np.array(result.batch_seconds) * 1000, [50, 99])
    return [
        result.name,
        f"{np.mean(result.recall):.4f}",
        f"{min(result.recall):.4f}",
        f"{np.mean(result.right):.2%}" if result.right else "",
        f"{result.rows / result.seconds:,.0f}",
        f"{result.processor_seconds:,.1f}",
        f"{p50:,.0f}, {p99:,.0f}",
        report.mebibytes(result.memory),
        f"{result.late:,}",
        result.failure or result.load,
    ]


def _run(names: list[str], contestants: list[str]) -> None:
    for name in names:
        make = ALL[name]
        table = report.make_table(
            name,
            "index",
            "recall@10",
            "least",
            "lists right",
            "rows/s",
            "processor s",
            "batch ms, p50, p99",
            "memory",
            "late rows",
            "load",
        )
        for contestant in contestants:
            report.progress(f"{name}: {contestant}")
            table.add_row(*_row(play_protocol(contestant, make)))
        report.print_table(table)


def _chosen(known: dict[str, object], names: list[str], what: str) -> list[str]:
    unknown = sorted(set(names) - set(known))
    if unknown:
        typer.echo(f"There is no {what} {', '.join(unknown)}. There are: {', '.join(known)}.", err=True)
        raise typer.Exit(2)
    return names


def run_protocols(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which protocols; the small ones if none is named.")
    ] = None,
    only: Annotated[str, typer.Option(help="Contestants, separated by commas.")] = "",
) -> None:
    """Send every contestant through the protocols, a table for each."""
    contestants = _chosen(dict(CONTESTANTS), only.split(",") if only else list(CONTESTANTS), "contestant")
    _run(_chosen(dict(ALL), names or list(QUICK_PROTOCOLS), "protocol"), contestants)


def main(*, quick: bool = False) -> None:
    """Run the small protocols and print the tables."""
    _run(["halves-quick"] if quick else list(QUICK_PROTOCOLS), list(CONTESTANTS))


if __name__ == "__main__":
    typer.run(run_protocols)

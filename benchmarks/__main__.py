"""`python -m benchmarks [NAME ...] [--quick]`: run benchmarks, each with its tables."""

import importlib
import os
from typing import Annotated

import typer

from benchmarks import machine, report

# Each module has `main(*, quick: bool)`; its docstring's first line says what it measures.
NAMES = (
    "demo_quality",
    "publish_to_read",
    "maintenance",
    "list_history",
    "bootstrap",
    "restart",
    "growth",
    "owned_memory",
    "takeover",
    "claims",
    "generations",
    "reads",
    "on_demand",
    "peers",
    "questions_oracle",
    "adhoc_search",
    "map_layout",
    "page",
    "files",
    "public",
    "pynndescent",
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run_benchmarks(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of them if none is named.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller and shorter; figures are rougher.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Say what there is.")] = False,
) -> None:
    """Run benchmarks and print a table for each figure, beside a peer or the machine's own limit."""
    unknown = sorted(set(names or ()) - set(NAMES))
    if unknown:
        typer.echo(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(NAMES)}.", err=True)
        raise typer.Exit(2)
    if not listing:
        report.console.print(f"{os.cpu_count()} cores, load average {machine.load_average()}\n")
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        if listing:
            typer.echo(f"{name:16} {(module.__doc__ or '').splitlines()[0]}")
        else:
            report.console.rule(name)
            module.main(quick=quick)


if __name__ == "__main__":
    app()

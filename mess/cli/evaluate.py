"""`mess evaluate`: measures the quality of recommendations."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import SecretStr

from mess.cli import console
from mess.cli.connections import run_command, with_generation
from mess.cli.console import fail
from mess.cli.options import Of
from mess.demo import catalogue
from mess.evaluate import database, evaluation, plan, table
from mess.evaluate import works as evaluated
from mess.evaluate.evaluation import EvaluationOptions
from mess.evaluate.listening import ListeningModel, SimulatedListening, simulate_listening
from mess.evaluate.report import EvaluationReport
from mess.evaluate.works import Works
from mess.settings import read_settings
from store.settings import StoreSettings
from streams.strategies import InvalidQuery

_WIDE = 160
_HINT = "Without MESS_DATABASE_URL and --database-url the demo catalogue is evaluated; it needs no services."


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(evaluate)


def evaluate(  # noqa: PLR0913, PLR0917 - every option of the command is a parameter
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Start from so many tracks, drawn at random. [default: all up to 5,000, of more 4,000]",
        ),
    ] = None,
    random_seed: Annotated[
        int, typer.Option(min=0, help="Of sampling, simulated listening, chance and confidence intervals.")
    ] = 0,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="Evaluate a running store instead of the demo catalogue.", envvar="MESS_DATABASE_URL"
        ),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="Only this strategy, or strategy/mode; may be repeated. similarity always is."),
    ] = None,
    hub_correction: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Also with hubs corrected, so strongly; 1 is CSLS."),
    ] = None,
    plays: Annotated[
        float, typer.Option(min=0.0, help="Simulated interactions for each track, on average.")
    ] = 20.0,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes to work in. [default: one for each core, at most 4]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables as Markdown into this file too.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a picture into this file, such as out.png.")] = None,
    of: Of = None,
) -> None:
    """Measure every strategy against labels it has not seen, beside chance and popularity alone.

    Changes nothing. Exits with 2 if it cannot run.
    """
    for option, path in (("--plot", plot), ("--markdown", markdown)):
        if path is not None and not path.absolute().parent.is_dir():
            fail(f"{option}: {path.parent} is not a directory.")
    if plot is not None:
        _require_matplotlib()
    console.quiet_libraries()
    try:
        entries = plan.planned_entries(["similarity", *strategy] if strategy else [])
    except InvalidQuery as error:
        fail(f"--strategy: {error}")
    options = evaluation.EvaluationOptions(
        entries=entries,
        seeds=seeds,
        random_seed=random_seed,
        hub_correction=hub_correction,
        processes=processes or min(4, os.cpu_count() or 1),
    )
    works, listening = _read(database_url, of, ListeningModel(random_seed=random_seed, per_track=plays))
    report = _run(works, listening, options)
    _print(report, as_json=as_json)
    if markdown is not None:
        _write(report, markdown)
    if plot is not None:
        _draw(report, plot)


def _require_matplotlib() -> None:
    """Exit before the work begins if matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs matplotlib, which is not installed.", hint="pip install 'mess-ai[plots]'")


def _read(
    database_url: str | None, of: str | None, model: ListeningModel
) -> tuple[Works, SimulatedListening]:
    """The catalogue and the listening: the store's own if there is any, else simulated."""
    if database_url:
        works, listening = _stored(database_url, of)
        return works, listening or simulate_listening(len(works), model)
    try:
        works = evaluated.of_demo(catalogue.load_demo_catalogue())
    except catalogue.CatalogueError as error:
        fail(str(error))
    return works, simulate_listening(len(works), model)


def _stored(database_url: str, of: str | None) -> tuple[Works, SimulatedListening | None]:
    store = read_settings(StoreSettings, database_url=SecretStr(database_url))
    found = run_command(with_generation(store, "evaluate", database.read_catalogue, of))
    if found is None:
        fail("The store holds no tracks yet.", hint=_HINT)
    return found


def _run(works: Works, listening: SimulatedListening, options: EvaluationOptions) -> EvaluationReport:
    with console.progress_bar("starting") as show:
        try:
            return evaluation.run_evaluation(works, listening, options, show)
        except evaluation.TooFewTracksError as error:
            fail(f"{error}; an evaluation needs two.")


def _print(report: EvaluationReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode())
        return
    out = console.out()
    if not out.is_terminal:
        # A file or a pipe has no width: nothing is folded there.
        out.width = _WIDE
    for fact in table.report_facts(report):
        out.print(fact, soft_wrap=True)
    for sheet in table.report_tables(report):
        out.print()
        out.print(table.for_terminal(sheet))


def _write(report: EvaluationReport, path: Path) -> None:
    try:
        path.write_text(table.as_markdown(report), encoding="utf-8")
    except OSError as error:
        fail(f"--markdown: {error}")


def _draw(report: EvaluationReport, path: Path) -> None:
    from mess.evaluate import plot  # noqa: PLC0415 -- it imports matplotlib, which is an extra

    try:
        plot.draw_report(report, path)
    except (OSError, ValueError) as error:
        fail(f"--plot: {error}")

"""Writes the reference pages of what the code knows: settings, metrics, the command line.

python -m tools.reference            writes docs/reference/
python -m tools.reference --check    exits with 1 and names the pages that are not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import typer
import typer.core
import typer.main
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typer.testing import CliRunner

from mess.cli import build_cli
from serving.metrics import ApiMetrics
from serving.settings import ServingSettings
from store.settings import StoreSettings
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings, StreamSettings

PAGES: Final = Path(__file__).parents[1] / "docs" / "reference"
_NOTICE: Final = "<!-- Written by `make docs` from the code: change it there. -->\n"
_SETTINGS: Final[tuple[tuple[str, str, type[BaseSettings]], ...]] = (
    ("Postgres", "Every process.", StoreSettings),
    ("Kafka", "Every process and command that talks to the broker.", KafkaSettings),
    ("The worker", "`mess worker`, and the topics that `mess topics create` makes.", StreamSettings),
    ("Recommendations", "`mess worker`.", RecommenderSettings),
    ("The API", "`mess api`.", ServingSettings),
)


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "settings.md": _settings_page(),
        "metrics.md": _metrics_page(),
        "command-line.md": _command_line_page(),
    }


def stale(directory: Path = PAGES) -> list[str]:
    """Return the names of the pages in `directory` that are missing or differ from what the code says."""
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.md")}
    return [name for name, text in pages().items() if found.get(name) != text]


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(_cell(text) for text in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _settings_page() -> str:
    text = (
        f"{_NOTICE}\n# Settings\n\nEnvironment variables. An empty one counts as not set. `mess check-env` says what is wrong "
        "with them, a line each.\n"
    )
    for title, readers, settings in _SETTINGS:
        rows = (_setting(settings, name, field) for name, field in settings.model_fields.items())
        text += f"\n## {title}\n\nRead by: {readers}\n\n{_table(('variable', 'default', 'values', 'meaning'), rows)}"
    return text


def _setting(settings: type[BaseSettings], name: str, field: FieldInfo) -> tuple[str, ...]:
    variable = f"{settings.model_config['env_prefix']}{name}".upper()
    meaning = ". ".join(part for part in (field.title, field.description) if part)
    return f"`{variable}`", _default(field.default), _values(field), meaning


def _default(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default == ():
        return "not set"
    shown = str(default)
    return f"`{shown.lower() if isinstance(default, bool) else shown.removesuffix('.0')}`"


def _values(field: FieldInfo) -> str:
    choices = get_args(field.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field.annotation is bool:
        return "`true`, `false`"
    bounds = {name: value for each in field.metadata for name, value in _bounds(each)}
    low, high = bounds.get("from"), bounds.get("to")
    above = f"above {bounds['above']:g}" if "above" in bounds else ""
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    if above and high is not None:
        return f"{above}, to {high:,}"
    return above or (f"{low:,} or more" if low is not None else "")


def _bounds(constraint: Any) -> Iterator[tuple[str, float]]:
    for attribute, name in (("ge", "from"), ("le", "to"), ("gt", "above")):
        value = getattr(constraint, attribute, None)
        if value is not None:
            yield name, value


def _metrics_page() -> str:
    worker, registry = WorkerMetrics(), CollectorRegistry()
    parts = (
        (
            "The worker",
            "`/metrics` on `MESS_WORKER_PORT`; in the local stack the port is `worker-1` in `DIR/ports.json`.",
            worker,
        ),
        ("Recommendations", "Beside those, on the worker's `/metrics`.", RecommenderMetrics(registry)),
        ("The API", "`GET /metrics`; Python's own process metrics are there, too.", ApiMetrics()),
    )
    text = f"{_NOTICE}\n# Metrics\n\nIn Prometheus's text format.\n"
    for title, where, metrics in parts:
        rows = (_metric(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase))
        text += f"\n## {title}\n\n{where}\n\n{_table(('metric', 'kind', 'labels', 'meaning'), rows)}"
    return text


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(metric._labelnames)  # noqa: SLF001 - a metric tells its labels only with its samples
    return f"`{name}`", family.type, labels, family.documentation.rstrip(".")


def _command_line_page() -> str:
    app = build_cli()
    text = f"{_NOTICE}\n# The command line\n"
    for path in _commands(typer.main.get_command(app), ()):
        shown = CliRunner().invoke(app, [*path, "--help"], prog_name="mess", terminal_width=100)
        text += f"\n## {' '.join(('mess', *path))}\n\n```text\n{shown.output.strip()}\n```\n"
    return text


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, typer.core.TyperGroup):
        yield path
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _commands(command.get_command(context, name), (*path, name))


def main() -> int:
    """Write the pages, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    if parser.parse_args().check:
        for name in stale():
            print(f"docs/reference/{name} is not what the code says: run `make docs`", file=sys.stderr)
        return int(bool(stale()))
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

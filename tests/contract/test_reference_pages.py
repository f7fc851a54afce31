"""docs/reference says what the code says: every setting, metric and command, with the defaults that hold."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from mess.environment import SETTINGS
from serving.metrics import ApiMetrics
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from tools import reference

pytestmark = pytest.mark.contract


def test_the_pages_are_what_the_code_says() -> None:
    """Each page equals the one that `make docs` would write, and no page is left that it would not."""
    assert reference.stale() == [], "run `make docs`"
    assert {path.name for path in reference.PAGES.glob("*.md")} == set(reference.pages())


def test_a_changed_page_is_noticed(tmp_path: Path) -> None:
    """A page that somebody edited, and one that is missing, are named."""
    pages = reference.pages()
    (tmp_path / "settings.md").write_text(pages["settings.md"], encoding="utf-8")
    (tmp_path / "metrics.md").write_text(pages["metrics.md"] + "x", encoding="utf-8")
    assert reference.stale(tmp_path) == ["metrics.md", "command-line.md"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_each_setting_is_there_with_its_default_and_a_meaning(settings: type[BaseSettings]) -> None:
    """The classes that `mess check-env` checks are those on the page, one row a setting."""
    rows = [line.split(" | ") for line in reference.pages()["settings.md"].splitlines()]
    for name, field in settings.model_fields.items():
        variable = f"{settings.model_config['env_prefix']}{name}".upper()
        (row,) = [row for row in rows if row[0] == f"| `{variable}`"]
        unset = {PydanticUndefined: "required", None: "not set", (): "not set"}
        shown = str(field.default).removesuffix(".0")
        assert row[1] == unset.get(
            field.default, f"`{shown.lower() if shown in ('True', 'False') else shown}`"
        )
        assert field.title
        assert field.title in row[3]


def test_each_metric_is_there_by_the_name_that_prometheus_shows() -> None:
    """Also those that a part of the process adds to a registry, and no other."""
    registry = CollectorRegistry()
    RecommenderMetrics(registry)
    expected = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for each in (WorkerMetrics().registry, registry, ApiMetrics().registry)
        for family in each.collect()
        if family.name.startswith("mess_")
    }
    page = reference.pages()["metrics.md"]
    assert {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")} == expected

"""docs/operations.md names what the worker measures and what can be set, with the defaults that hold."""

from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from store.settings import StoreSettings
from streams.metrics import WorkerMetrics
from streams.settings import StreamSettings

pytestmark = pytest.mark.contract

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8").splitlines()

SETTINGS = [
    (settings, name) for settings in (StoreSettings, StreamSettings) for name in settings.model_fields
]


@pytest.mark.parametrize(("settings", "name"), SETTINGS, ids=[name for _, name in SETTINGS])
def test_each_setting_stands_in_the_guide_with_its_default(settings: type[BaseSettings], name: str) -> None:
    """A row of the table has the variable and the default of the settings class."""
    variable = f"{settings.model_config['env_prefix']}{name}".upper()
    default = settings.model_fields[name].default
    shown = "none" if default in (None, PydanticUndefined) else str(default).removesuffix(".0")
    rows = [line.split("|") for line in GUIDE if line.startswith(f"| `{variable}` |")]
    assert [row[2].strip() for row in rows] == [shown], variable


def test_no_setting_stands_in_the_guide_that_is_not_there() -> None:
    """A variable of the table belongs to a settings class."""
    known = {f"{settings.model_config['env_prefix']}{name}".upper() for settings, name in SETTINGS}
    shown = {line.split("`")[1] for line in GUIDE if line.startswith("| `MESS_")}
    assert shown == known


def test_each_metric_of_the_worker_stands_in_the_guide() -> None:
    """A row of the table has each metric by the name that Prometheus shows, and no row has another."""
    expected = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in WorkerMetrics().registry.collect()
    }
    shown = {line.split("`")[1] for line in GUIDE if line.startswith("| `mess_")}
    assert shown == expected

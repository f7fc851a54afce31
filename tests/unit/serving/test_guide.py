"""The guide in docs/api.md names what there is."""

from pathlib import Path

import pytest

from serving.metrics import Metrics
from serving.settings import ServingSettings

pytestmark = pytest.mark.unit

GUIDE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(ServingSettings.model_fields))
def test_names_every_setting_with_its_default(name: str) -> None:
    """Each setting stands in the guide on a line that has its default."""
    variable = f"`MESS_API_{name.upper()}`"
    default = ServingSettings.model_fields[name].default
    shown = "none" if default == () else str(default).lower().removesuffix(".0")
    assert any(variable in line and shown in line for line in GUIDE.splitlines()), (variable, shown)


def test_names_every_metric() -> None:
    """Each metric of our own stands in the guide."""
    metrics = Metrics()
    ours = {family.name for family in metrics.registry.collect() if family.name.startswith("mess_")}
    assert ours
    assert {name for name in ours if f"`{name}" not in GUIDE} == set()

"""docs/recommendations.md names what can be asked, set and measured, as it is."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streams.contracts import RecommendationRequest
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings

pytestmark = pytest.mark.contract

GUIDE = (Path(__file__).parents[2] / "docs" / "recommendations.md").read_text(encoding="utf-8").splitlines()


def rows(prefix: str) -> dict[str, list[str]]:
    """The rows of the guide's tables whose first cell begins so: the cells after it."""
    found = [line.split("|") for line in GUIDE if line.startswith(f"| `{prefix}")]
    return {cells[1].strip(" `"): [cell.strip() for cell in cells[2:]] for cells in found}


def test_each_setting_stands_in_the_guide_with_its_default() -> None:
    """And no other does."""
    prefix = str(RecommenderSettings.model_config["env_prefix"])
    defaults = {
        f"{prefix}{name}".upper(): str(field.default).removesuffix(".0")
        for name, field in RecommenderSettings.model_fields.items()
    }
    assert {name: cells[0] for name, cells in rows("MESS_").items()} == defaults


def test_each_metric_stands_in_the_guide() -> None:
    """By the name that Prometheus shows; and no other does."""
    registry = CollectorRegistry()
    RecommenderMetrics(registry)
    expected = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()
    }
    assert set(rows("mess_")) == expected


def test_each_field_of_a_request_stands_in_the_guide() -> None:
    """In the first cell of some row."""
    first = " ".join(line.split("|")[1] for line in GUIDE if line.startswith("| `"))
    missing = [name for name in RecommendationRequest.model_fields if f"`{name}`" not in first]
    assert missing == ["request_id"]

"""docs/recommendations.md names what can be asked, as it is."""

from pathlib import Path

import pytest

from streams.contracts import RecommendationRequest

pytestmark = pytest.mark.contract

GUIDE = (Path(__file__).parents[2] / "docs" / "recommendations.md").read_text(encoding="utf-8").splitlines()


def test_each_field_of_a_request_stands_in_the_guide() -> None:
    """In the first cell of some row."""
    first = " ".join(line.split("|")[1] for line in GUIDE if line.startswith("| `"))
    missing = [name for name in RecommendationRequest.model_fields if f"`{name}`" not in first]
    assert missing == ["request_id"]

"""Keys in URLs are told from everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.keys_in_urls import holds_key, redact_keys
from serving.models import NamesQuery, TracksQuery
from serving.recommend.questions import ExplainQuery, RecommendQuery
from store.keys import new_key

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "query",
    [
        "api_key=1",
        "a=b&apikey=1",
        "API-Key=1",
        "x-api-key=1",
        "token=1",
        "a=1;access_token=2",
        "%6bey=1",
        "auth",
    ],
)
def test_parameters_that_hold_keys_elsewhere_are_told(query: str) -> None:
    """By their names, however written."""
    assert holds_key(query)
    assert "1" not in redact_keys(query)


@given(st.text(), st.text(), st.integers(22, 78))
def test_a_key_of_ours_is_never_logged(before: str, behind: str, length: int) -> None:
    """Wherever it stands, whole or nearly."""
    key = new_key()[:length]
    assert key not in redact_keys(before + key + behind)


@pytest.mark.parametrize("model", [RecommendQuery, ExplainQuery, TracksQuery, NamesQuery])
def test_no_parameter_of_ours_looks_like_one(model: type) -> None:
    """Whatever is asked properly is answered and logged."""
    for name in [*model.model_fields, "extra.key", "user_context.token", "parameters.secret"]:
        assert not holds_key(f"{name}=key&top_k=5")

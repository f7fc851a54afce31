"""The OpenAPI document has what query strings can say, for who tries it."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr, TypeAdapter

from serving.app import create_app
from serving.recommend.questions import QuestionReader
from serving.settings import ServingSettings
from store.settings import StoreSettings
from streams.contracts.queries import Text
from streams.strategies import registry

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of an API that knows the strategies."""
    store = StoreSettings(database_url=SecretStr("postgresql://127.0.0.1/none"))
    return create_app(ServingSettings(), store).openapi()


def dotted(document: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    """The parameters of a path that have a dot in their name, by it."""
    parameters = document["paths"][path]["get"]["parameters"]
    return {each["name"]: each for each in parameters if "." in each["name"]}


def test_a_filter_on_what_is_no_field_is_against_the_document(document: dict[str, Any]) -> None:
    """Names of metadata fields and `extra.<key>` alone are allowed in a body's `filters`."""
    filters = document["components"]["schemas"]["RecommendationQuery"]["properties"]["filters"]
    assert filters["additionalProperties"] is False
    (names,) = filters["patternProperties"]
    assert [name for name in ("era", "extra.a b", "eras", "extra.", "¡") if re.search(names, name)] == [
        "era",
        "extra.a b",
    ]


def test_no_names_but_those_of_a_pattern_are_allowed(document: dict[str, Any]) -> None:
    """Wherever the document says what values names of a pattern have, it allows no other names."""
    patterned = [each for each in _objects(document) if "patternProperties" in each]
    assert patterned
    assert [each for each in patterned if each.get("additionalProperties") is not False] == []


def _objects(part: Any) -> list[dict[str, Any]]:
    """Every object within a document."""
    if isinstance(part, list):
        return [found for each in part for found in _objects(each)]
    if not isinstance(part, dict):
        return []
    return [part, *(found for each in part.values() for found in _objects(each))]


def test_names_of_further_keys_are_as_they_are_read(document: dict[str, Any]) -> None:
    """The document says of names in `user_context` what their reader demands."""
    named = document["components"]["schemas"]["UserContext"]["propertyNames"]
    assert named == TypeAdapter(Text).json_schema()


@pytest.mark.parametrize("path", ["/recommend/{track_id}", "/explain"])
def test_every_setting_of_a_strategy_is_a_parameter(document: dict[str, Any], path: str) -> None:
    """By the name that a query string has for it, with its strategies, and bounds that none of them goes beyond."""
    found = dotted(document, path)
    settings = [(strategy.name, each) for strategy in registry.STRATEGIES for each in strategy.parameters]
    for strategy, setting in settings:
        described = found[f"parameters.{setting.name}"]
        assert f"`{strategy}" in described["description"]
        assert setting.description in described["description"]
        if setting.minimum is not None:
            assert described["schema"]["minimum"] <= setting.minimum
            assert described["schema"]["maximum"] >= setting.maximum
        # Whoever tries the path would send it, whatever the strategy.
        assert "default" not in described["schema"]
    context = {f"user_context.{name}" for name in ("goal", "recent_skips", "time", "seed")}
    assert set(found) == {f"parameters.{setting.name}" for _, setting in settings} | context


def test_what_is_described_can_be_asked(document: dict[str, Any]) -> None:
    """A value of each schema is taken by its parameter."""
    values = {"number": 0.5, "integer": 50, "boolean": "true", "string": "2026-01-02T03:04:05Z"}
    for name, described in dotted(document, "/recommend/{track_id}").items():
        schema = described["schema"]
        value = schema.get("enum", [values[schema["type"]]])[0]
        query = QuestionReader().read(urlencode({name: value}).encode()).query
        part, _, key = name.partition(".")
        assert key in query.model_dump(include={part}, exclude_defaults=True)[part]


def test_keys_of_a_catalogues_own_are_told_of(document: dict[str, Any]) -> None:
    """No document can name them: the description of each path says how to ask for one."""
    for path in ("/recommend/{track_id}", "/explain"):
        assert "`extra.<key>`" in document["paths"][path]["get"]["description"]

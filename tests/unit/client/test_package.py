"""The package as a whole: one source for both clients, nothing imported beyond what it declares, and the API's own members."""

import ast
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import mess_client.models as ours
import pytest
from mess_client.questions import Question
from pydantic import BaseModel

from serving import models as served
from serving.kafka.changes import FeedChange, described_change
from streams.contracts import RecommendationQuery, ScoredTrack
from streams.contracts.lists import encode_list_change
from streams.contracts.recommendations import (
    ChosenStrategy,
    ComparedList,
    Comparison,
    ListOverlap,
    PlacementBody,
    Stage,
)
from tools import sync_client

pytestmark = pytest.mark.unit

CLIENT = Path(ours.__file__).parents[1]
# The client's model, and what the API describes.
PAIRS: tuple[tuple[type[BaseModel], type[BaseModel]], ...] = (
    (ours.Metadata, served.TrackMetadata),
    (ours.EventPosition, served.SourcePosition),
    (ours.RecommendedTrack, served.Recommendation),
    (ours.Recommendations, served.RecommendationBody),
    (ours.PastTrack, served.PastRecommendation),
    (ours.PastRecommendations, served.PastRecommendationBody),
    (ours.CandidateStage, Stage),
    (ours.ChosenByAuto, ChosenStrategy),
    (ours.Placement, PlacementBody),
    (ours.Explanation, served.ExplanationResponse),
    (ours.StrategyAnswer, ComparedList),
    (ours.StrategyOverlap, ListOverlap),
    (ours.StrategyComparison, Comparison),
    (ours.ComparedStrategies, served.ComparisonResponse),
    (ours.CatalogueTrack, served.TrackSummary),
    (ours.CatalogueRecord, served.TrackDetail),
    (ours.ListState, served.TrackList),
    (ours.CataloguePage, served.TracksPage),
    (ours.CountedName, served.NameCount),
    (ours.ComposersAnswer, served.ComposerList),
    (ours.TagsAnswer, served.TagList),
    (ours.MapPoints, served.MapPage),
    (ours.StrategyOffer, served.StrategyInfo),
    (ours.StrategyOffers, served.StrategyList),
    (ours.Health, served.HealthReport),
    (ours.HealthFinding, served.HealthCheck),
    (ours.ScoredNeighbour, ScoredTrack),
    (ours.ProblemField, served.FieldError),
    (ours.ProblemDetail, served.ProblemDocument),
)


@pytest.mark.parametrize("name", sync_client.MODULES)
def test_the_synchronous_client_is_what_its_source_makes(name: str) -> None:
    """`python -m tools.sync_client` would change nothing."""
    on_disk = (sync_client.PACKAGE / sync_client.MODULES[name]).read_text(encoding="utf-8")
    assert on_disk == sync_client.generated(name)


def test_nothing_is_imported_beyond_the_declared_dependencies() -> None:
    """Of other distributions, httpx and pydantic alone."""
    declared = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    assert [each.partition(">")[0] for each in declared] == ["httpx", "pydantic"]
    imported = set()
    for path in (CLIENT / "mess_client").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"httpx", "pydantic", "mess_client"}


@pytest.mark.parametrize(("model", "described"), PAIRS, ids=lambda each: each.__name__)
def test_a_model_has_the_members_that_the_api_describes(
    model: type[BaseModel], described: type[BaseModel]
) -> None:
    """Each by its name; one is required only where the API promises it."""
    assert set(model.model_fields) == set(described.model_fields)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    promised = {name for name, field in described.model_fields.items() if field.is_required()}
    assert required <= promised


def test_a_question_has_the_fields_that_the_api_takes() -> None:
    """All but those that have a method of their own."""
    taken = {field.alias or name for name, field in RecommendationQuery.model_fields.items()}
    assert set(Question.__optional_keys__) == taken - {"candidate", "compare"}


def test_a_change_has_the_members_that_the_api_tells() -> None:
    """As the API itself writes one."""
    _, value = encode_list_change(
        "a",
        version=1,
        neighbours=["b"],
        scores=[b"0.5"],
        added=["b"],
        removed=[],
        source=("track-ingest", 0, 1),
        generated_at=datetime(2026, 2, 3, tzinfo=UTC),
    )
    told = described_change(FeedChange(3, 7, "a", value), whole=True)
    assert set(told) == set(ours.Change.model_fields)
    change = ours.Change.model_validate(told)
    assert (change.offset.partition, change.offset.offset, change.reason) == (3, 7, "first-list")

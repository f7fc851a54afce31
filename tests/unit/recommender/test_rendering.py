"""Answers as JSON, by the contract's models."""

from typing import Any

import numpy as np
import orjson
import pytest

from streams.contracts import RecommendationBody, finished_body, generation_members
from streams.contracts.recommendations import Comparison, PlacementBody
from streams.engine.search.types import SearchSettings
from streams.generations import GenerationName
from streams.recommender.answering import QuestionAnswerer
from streams.recommender.catalogue_questions import (
    Body,
    CatalogueQuestion,
    FailedQuestion,
    RefusedQuestion,
    UnknownTracks,
)
from streams.strategies import Query, Seed, registry
from tests.support.question_catalogues import batch_of, some_tracks
from tests.support.question_oracle import Known

pytestmark = pytest.mark.unit

FIRST = generation_members(GenerationName())

DIMENSION, TRACKS = 8, 40


@pytest.fixture(scope="module")
def catalogue() -> tuple[QuestionAnswerer, list[Known]]:
    """Some tracks with metadata of every kind, and what answers questions about them."""
    tracks = some_tracks(np.random.default_rng(5), TRACKS, DIMENSION)
    answerer = QuestionAnswerer(DIMENSION, SearchSettings())
    answerer.apply(batch_of(tracks, [], 7, DIMENSION))
    return answerer, tracks


def ask(answerer: QuestionAnswerer, *seeds: Known, **asked: Any) -> Any:
    """The answer to a question about tracks."""
    fields = {
        name: asked.pop(name) for name in ("keep", "candidate", "compare", "notes", "source") if name in asked
    }
    query = Query(seeds=tuple(Seed(seed.key) for seed in seeds), **asked)
    _, mode = registry.find_mode(query.strategy, query.mode)
    reference = seeds[0].key if len(seeds) == 1 else None
    return answerer.answer(
        CatalogueQuestion(query, (query.strategy, mode.name), reference=reference, **fields)
    )


def body_of(answer: Any) -> dict[str, Any]:
    """The whole body as the reader gets it."""
    assert isinstance(answer, Body), answer
    whole = finished_body(answer.computed, FIRST, cached=False, stale=False, milliseconds=0.5)
    found: dict[str, Any] = orjson.loads(whole)
    return found


@pytest.mark.parametrize(
    ("strategy", "mode"), [(each.name, mode.name) for each in registry.STRATEGIES for mode in each.modes]
)
def test_every_strategy_is_written_as_the_contract_has_it(
    catalogue: tuple[QuestionAnswerer, list[Known]], strategy: str, mode: str | None
) -> None:
    """All members, ranks from 1, the tracks' own metadata, and the notes of the question first."""
    answerer, tracks = catalogue
    body = body_of(ask(answerer, tracks[0], strategy=strategy, mode=mode, top_k=5, notes=("late",)))
    RecommendationBody.model_validate(body)
    assert (body["reference_track"], body["strategy"], body["mode"]) == (tracks[0].track_id, strategy, mode)
    assert (body["reference_metadata"] or {})["title"] == tracks[0].metadata["title"]
    assert body["notes"][0] == "late"
    assert [item["rank"] for item in body["recommendations"]] == [1, 2, 3, 4, 5]
    known = {track.track_id: track for track in tracks}
    for item in body["recommendations"]:
        metadata = known[item["track_id"]].metadata
        assert item["metadata"] == {**item["metadata"], **metadata}
        assert {name: item[name] for name in ("title", "composer", "era", "tags")} == {
            name: metadata[name] for name in ("title", "composer", "era", "tags")
        }
        assert item["filename"] == metadata["extra"].get("filename")


def test_what_is_stored_is_what_is_sent_but_for_cached(
    catalogue: tuple[QuestionAnswerer, list[Known]],
) -> None:
    """Also what it was made from: its tracks and the reference, each with the offset of its event."""
    answerer, tracks = catalogue
    body = ask(answerer, tracks[1], keep=True, top_k=3)
    sent, stored = orjson.loads(body.computed), orjson.loads(body.kept)
    for item in stored["recommendations"]:
        assert item.pop("cached") is True
    for item in sent["recommendations"]:
        assert item.pop("cached") is False
    assert sent == stored
    assert body.made_from == dict.fromkeys([*body.members, tracks[1].key], 7)
    assert ask(answerer, tracks[1], top_k=3).kept is None


def test_several_seeds_have_contributions(catalogue: tuple[QuestionAnswerer, list[Known]]) -> None:
    """Each item says what each seed adds, and which one adds most; there is no reference."""
    answerer, tracks = catalogue
    body = body_of(ask(answerer, tracks[0], tracks[1], top_k=4))
    names = {tracks[0].track_id, tracks[1].track_id}
    assert body["reference_track"] is None
    for item in body["recommendations"]:
        assert item["contributions"].keys() == names
        assert item["seed"] == max(item["contributions"], key=item["contributions"].__getitem__)


def test_a_placement_says_where_a_track_stands(catalogue: tuple[QuestionAnswerer, list[Known]]) -> None:
    """Its stage, its rank, and the item as the list would have it."""
    answerer, tracks = catalogue
    first = body_of(ask(answerer, tracks[0], top_k=1))["recommendations"][0]
    candidate = next(track for track in tracks if track.track_id == first["track_id"])
    placement = body_of(ask(answerer, tracks[0], candidate=candidate.key))["placement"]
    PlacementBody.model_validate(placement)
    assert (placement["stage"], placement["listed"], placement["rank"]) == ("listed", True, 1)
    assert placement["recommendation"] == first
    itself = body_of(ask(answerer, tracks[0], candidate=tracks[0].key))["placement"]
    assert (itself["stage"], itself["recommendation"]) == ("seeds", None)


def test_a_comparison_has_every_strategy(catalogue: tuple[QuestionAnswerer, list[Known]]) -> None:
    """Each list with its measures, and the overlap of each pair."""
    answerer, tracks = catalogue
    comparison = body_of(ask(answerer, tracks[2], compare=True, top_k=5))["comparison"]
    Comparison.model_validate(comparison)
    modes = [(each.name, mode.name) for each in registry.STRATEGIES for mode in each.modes]
    assert [(each["strategy"], each["mode"]) for each in comparison["lists"]] == modes
    assert len(comparison["overlap"]) == len(modes) * (len(modes) - 1) // 2


def test_what_cannot_be_answered_is_told_by_kind(
    catalogue: tuple[QuestionAnswerer, list[Known]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown tracks, refused settings, and a defect, which ends only the question that brings it about."""
    answerer, tracks = catalogue
    stranger = Known("nowhere", {}, np.zeros(DIMENSION, dtype=np.float32))
    assert ask(answerer, stranger) == UnknownTracks((stranger.key,))
    refused = answerer.answer(
        CatalogueQuestion(Query(embedding=np.ones(3, dtype=np.float32)), ("similarity", None))
    )
    assert refused == RefusedQuestion("embedding", f"has 3 components; this catalogue has {DIMENSION}")
    with monkeypatch.context() as patch:
        patch.setattr(answerer, "_source", None)
        failed = ask(answerer, tracks[0])
    assert isinstance(failed, FailedQuestion)
    assert "TypeError" in failed.text
    assert isinstance(ask(answerer, tracks[0]), Body)

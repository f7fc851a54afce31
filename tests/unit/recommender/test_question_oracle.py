"""Random questions to a catalogue that changes, held against brute force: equal lists, or what could not be met is said."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.engine.search.types import SearchSettings
from streams.recommender.answering import QuestionAnswerer
from streams.recommender.catalogue_questions import Body, CatalogueQuestion, RefusedQuestion
from streams.strategies import InvalidQuery, Query, Seed
from streams.strategies.aspects import Layout, checked_weights
from tests.support.examples import examples
from tests.support.question_catalogues import (
    batch_of,
    some_facts,
    some_popularity,
    some_question,
    some_tracks,
)
from tests.support.question_oracle import Known, Oracle, differences

pytestmark = pytest.mark.unit

DIMENSION = 6
QUESTIONS = 6


def answered(answerer: QuestionAnswerer, query: Query) -> dict[str, Any]:
    """The body of an answer."""
    answer = answerer.answer(CatalogueQuestion(query, (query.strategy, query.mode)))
    assert isinstance(answer, Body), answer
    body: dict[str, Any] = orjson.loads(answer.computed)
    return body


def check(answerer: QuestionAnswerer, oracle: Oracle, query: Query) -> None:
    """Hold one question against brute force."""
    try:
        expected = oracle.answer(query)
    except InvalidQuery:
        assert isinstance(
            answerer.answer(CatalogueQuestion(query, (query.strategy, query.mode))), RefusedQuestion
        )
        return
    assert differences(answered(answerer, query), expected, query) == [], query


# What fails is told by its number: a smaller one is no simpler.
@settings(max_examples=examples(40), deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(number=st.integers(0, 2**32 - 1), size=st.integers(2, 120))
def test_questions_are_answered_as_brute_force_answers_them(number: int, size: int) -> None:
    """Every kind of question, before and after tracks came, went, moved and were described anew."""
    random = np.random.default_rng(number)
    answerer = QuestionAnswerer(DIMENSION, SearchSettings())
    tracks: dict[str, Known] = {}
    for step in range(3):
        changed = some_tracks(random, size, DIMENSION, first=int(random.integers(0, size)))
        gone = [name for name in tracks if random.random() < 0.2]
        tracks = {name: one for name, one in tracks.items() if name not in gone}
        changed = [one for one in changed if one.track_id not in gone]
        tracks |= {one.track_id: one for one in changed}
        answerer.apply(batch_of(changed, gone, step, DIMENSION))
        everything = list(tracks.values())
        popularity, facts = some_popularity(random, everything), some_facts(random, everything)
        answerer.know_popularity(popularity)
        answerer.know_lists(facts)
        oracle = Oracle(everything, popularity, facts)
        for _ in range(QUESTIONS if everything else 0):
            check(answerer, oracle, some_question(random, everything, DIMENSION))


LAYOUT = Layout.of_sizes({"melody": 3, "rhythm": 2, "harmony": 1}, {"melody": 3, "rhythm": 2, "harmony": 1})


def parted(random: np.random.Generator, track: Known) -> Known:
    """The track with a vector of aspects, of which some are missing."""
    parts = {name: random.standard_normal(size) for name, size, _ in LAYOUT.rows if random.random() < 0.85}
    vector = LAYOUT.join({n: (p / np.linalg.norm(p)).astype(np.float32) for n, p in parts.items()})
    return (
        replace(track, vector=vector)
        if parts
        else replace(track, vector=LAYOUT.join({"harmony": np.ones(1)}))
    )


def weighted_mean(one: np.ndarray, other: np.ndarray, weights: Mapping[str, float]) -> float:
    """The weighted mean of the aspects' cosines, part by part; a missing part counts 0."""
    mean = 0.0
    for name, where in LAYOUT.parts.items():
        lengths = np.linalg.norm(one[where]) * np.linalg.norm(other[where])
        if lengths and name in weights:
            mean += weights[name] * float(one[where].astype("f8") @ other[where].astype("f8")) / lengths
    return mean


@settings(max_examples=examples(20), deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(number=st.integers(0, 2**32 - 1), size=st.integers(2, 60))
def test_weighted_questions_are_answered_as_brute_force_answers_them(number: int, size: int) -> None:
    """Random weights, negative ones too, with every other kind of question; each item says the weighted mean and its parts."""
    random = np.random.default_rng(number)
    answerer = QuestionAnswerer(DIMENSION, SearchSettings())
    tracks = [parted(random, track) for track in some_tracks(random, size, DIMENSION)]
    answerer.apply(batch_of(tracks, [], 0, DIMENSION))
    popularity, facts = some_popularity(random, tracks), some_facts(random, tracks)
    answerer.know_popularity(popularity)
    answerer.know_lists(facts)
    oracle = Oracle(tracks, popularity, facts)
    vectors = {track.track_id: track.vector for track in tracks}
    for _ in range(QUESTIONS):
        weights = {name: float(random.uniform(-1, 1)) for name in LAYOUT.names if random.random() < 0.7}
        query = replace(
            some_question(random, tracks, DIMENSION),
            layout=LAYOUT,
            weights=checked_weights(weights) if weights else None,
        )
        check(answerer, oracle, query)
    for seed in tracks[:3]:
        weights = checked_weights(dict(zip(LAYOUT.names, random.uniform(-1, 1, 3).tolist(), strict=True)))
        query = Query(seeds=(Seed(seed.key),), layout=LAYOUT, weights=weights, top_k=50)
        body = answered(answerer, query)
        expected = {
            name: weighted_mean(seed.vector, vector, weights)
            for name, vector in vectors.items()
            if name != seed.track_id
        }
        best = sorted(expected.values(), reverse=True)[:50]
        assert [item["similarity_score"] for item in body["recommendations"]] == pytest.approx(best, abs=3e-6)
        for item in body["recommendations"]:
            assert item["similarity_score"] == pytest.approx(expected[item["track_id"]], abs=3e-6)
            for name, cosine in item["aspects"].items():
                alone = weighted_mean(seed.vector, vectors[item["track_id"]], {name: 1.0})
                assert (cosine or 0.0) == pytest.approx(alone, abs=2e-6)


@settings(max_examples=examples(20), deadline=None)
@given(number=st.integers(0, 2**32 - 1))
def test_a_vector_that_lacks_an_aspect_scores_as_a_track_that_does(number: int) -> None:
    """What is missing counts 0, with weights and without."""
    random = np.random.default_rng(number)
    answerer = QuestionAnswerer(DIMENSION, SearchSettings())
    tracks = [parted(random, track) for track in some_tracks(random, 20, DIMENSION)]
    answerer.apply(batch_of(tracks, [], 0, DIMENSION))
    vectors = {track.track_id: track.vector for track in tracks}
    embedding = LAYOUT.join({"rhythm": np.array([0.6, 0.8], dtype=np.float32)})
    own = {aspect.name: aspect.weight for aspect in LAYOUT.aspects}
    for weights in (None, checked_weights({"rhythm": 2, "melody": 1})):
        query = Query(embedding=embedding, layout=LAYOUT, weights=weights, top_k=50)
        items = answered(answerer, query)["recommendations"]
        assert len(items) == len(tracks)
        for item in items:
            mean = weighted_mean(embedding, vectors[item["track_id"]], weights or own)
            assert item["similarity_score"] == pytest.approx(mean, abs=3e-6)


@settings(max_examples=examples(20), deadline=None)
@given(number=st.integers(0, 2**32 - 1))
def test_no_weighted_score_is_above_one(number: int) -> None:
    """However seeds that cancel out in one aspect agree in another; what they contribute adds up to the score."""
    random = np.random.default_rng(number)
    answerer = QuestionAnswerer(DIMENSION, SearchSettings())
    tracks = [parted(random, track) for track in some_tracks(random, 20, DIMENSION)]
    both = [LAYOUT.join({"melody": sign * np.eye(3)[0], "rhythm": np.eye(2)[0]}) for sign in (1, -1)]
    tracks = [*tracks, *(replace(tracks[0], track_id=f"seed/{i}", vector=v) for i, v in enumerate(both))]
    same = replace(tracks[0], track_id="same", vector=LAYOUT.join({"rhythm": np.eye(2)[0]}))
    answerer.apply(batch_of([*tracks, same], [], 0, DIMENSION))
    seeds = tuple(Seed(track.key, 1.0) for track in tracks[-2:])
    query = Query(seeds=seeds, layout=LAYOUT, weights={"rhythm": 1.0}, top_k=50)
    items = answered(answerer, query)["recommendations"]
    assert items[0]["similarity_score"] == pytest.approx(1, abs=2e-6)
    for item in items:
        assert abs(item["similarity_score"]) <= 1 + 1e-6
        assert sum(item["contributions"].values()) == pytest.approx(item["similarity_score"], abs=3e-6)

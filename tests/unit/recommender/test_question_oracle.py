"""Random questions to a catalogue that changes, held against brute force: equal lists, or what could not be met is said."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.engine.search.types import SearchSettings
from streams.recommender.answering import QuestionAnswerer
from streams.recommender.catalogue_questions import Body, CatalogueQuestion, RefusedQuestion
from streams.strategies import InvalidQuery, Query
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

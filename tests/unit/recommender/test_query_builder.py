"""From requests to the strategies' queries."""

from typing import Any

import numpy as np
import pytest

from streams.contracts import RecommendationQuery, track_key
from streams.recommender.problems import RequestProblemError
from streams.recommender.query_builder import NamedTracks, is_stored_list, make_query
from streams.strategies import Query
from streams.strategies.aspects import Layout

pytestmark = pytest.mark.unit


def query(dimension: int | None = None, **asked: Any) -> Query:
    """The query of a request with these fields."""
    request = RecommendationQuery.model_validate(
        asked if asked.keys() & {"seeds", "embedding"} else {"track_id": "a", **asked}
    )
    return make_query(
        request, now=1000.0, window=60.0, layout=None if dimension is None else Layout(dimension)
    )


def refused(**asked: Any) -> tuple[int, str, str]:
    """Status, field and message of the problem."""
    with pytest.raises(RequestProblemError) as caught:
        query(**asked)
    (error,) = caught.value.problem.errors
    return caught.value.problem.status, error.field, error.message


def test_weights_of_a_seed_that_is_given_twice_add_up() -> None:
    """Seeds and negatives become keys, in the order in which they are first named."""
    made = query(seeds=["a", {"track_id": "b", "weight": 2}, {"track_id": "a", "weight": 3}], negatives=["c"])
    assert [(seed.key, seed.weight) for seed in made.seeds] == [(track_key("a"), 4.0), (track_key("b"), 2.0)]
    assert [seed.key for seed in made.negatives] == [track_key("c")]


def test_the_moment_is_the_listeners_if_they_say_one() -> None:
    """Else the worker's clock."""
    assert query().moment == 1000.0
    assert query(user_context={"time": "1970-01-01T01:00:00Z"}).moment == 3600.0


def test_a_listeners_seed_is_a_setting_of_strategies_that_draw() -> None:
    """A setting of the request's own takes precedence; strategies that do not draw get none."""
    context = {"seed": 4}
    assert query(strategy="random", user_context=context).parameters == {"seed": 4}
    assert query(strategy="exploration", user_context=context).parameters == {"seed": 4}
    assert query(strategy="random", user_context=context, parameters={"seed": 5}).parameters == {"seed": 5}
    assert query(strategy="popular", user_context=context).parameters == {}


def test_an_embedding_is_scaled_and_must_fit_the_catalogue() -> None:
    """The dimension of the catalogue is required once it is known."""
    made = query(embedding=[3.0, 4.0], dimension=2).embedding
    assert made is not None
    assert np.allclose(made, [0.6, 0.8])
    assert refused(embedding=[3.0, 4.0], dimension=3)[:2] == (422, "embedding")


def test_what_strategies_refuse_is_told_by_the_requests_names() -> None:
    """A setting is one of `parameters`."""
    assert refused(strategy="diverse", parameters={"lambda": 2}) == (
        422,
        "parameters.lambda",
        "must be between 0 and 1",
    )
    assert refused(strategy="diverse", parameters={"loudness": 2})[1] == "parameters.loudness"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, True),
        ({"top_k": 3, "exclude": ["b"]}, True),
        ({"seeds": ["a"]}, True),
        ({"seeds": ["a", "b"]}, False),
        ({"strategy": "popular"}, False),
        ({"filters": {"era": "Baroque"}}, False),
        ({"hub_correction": 0.5}, False),
        ({"near_duplicates": True}, False),
        ({"negatives": ["b"]}, False),
        ({"embedding": [1.0]}, False),
    ],
)
def test_the_stored_list_begins_plain_answers(asked: dict[str, Any], expected: bool) -> None:
    """Similarity to one track, without anything that needs other candidates."""
    assert is_stored_list(query(**asked)) is expected


def test_tracks_that_do_not_exist_are_told_by_the_field_that_names_them() -> None:
    """The first field with one; as many as fit are named."""
    request = RecommendationQuery(seeds=["a", "b"], negatives=["c"], candidate="d")
    named = NamedTracks.of(request)
    assert named.keys == [track_key(name) for name in "abcd"]
    problem = named.not_found({track_key("b"), track_key("d")}, one=False).problem
    assert (problem.status, problem.errors[0].field) == (404, "seeds")
    assert problem.detail == "There is no track 'b'."
    assert named.not_found({track_key("d")}, one=False).problem.errors[0].field == "candidate"
    alone = NamedTracks.of(RecommendationQuery(track_id="a"))
    assert alone.not_found({track_key("a")}, one=True).problem.errors[0].field == "track_id"

"""Query strings in the terms of a request, and which of the ways of answering each can take."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.problems import ProblemError, problem_document
from serving.questions import Questions, checked
from streams.events import InvalidRequest, RecommendationQuery, parse_request

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("query", "request_"),
    [
        ("era=Baroque", {"filters": {"era": "Baroque"}}),
        ("era=Baroque&era=Classical", {"filters": {"era": ["Baroque", "Classical"]}}),
        ("era_not=Romantic&era=Baroque", {"filters": {"era": {"any": ["Baroque"], "not": ["Romantic"]}}}),
        (
            "year_composed_min=1700&year_composed_max=1750",
            {"filters": {"year_composed": {"min": 1700.0, "max": 1750.0}}},
        ),
        ("recording_date_min=2009-05", {"filters": {"recording_date": {"min": "2009-05"}}}),
        ("tags=a&tags_all=b&tags_all=c", {"filters": {"tags": {"any": ["a"], "all": ["b", "c"]}}}),
        (
            "extra.label=Sony&extra.disc=2&extra.live=true",
            {"filters": {"extra.label": ["Sony"], "extra.disc": [2], "extra.live": [True]}},
        ),
        (
            "max_per_composer=2&max_per_album=1&max_list_share=0.01",
            {"caps": {"composer": 2, "album": 1, "list_share": 0.01}},
        ),
        (
            "strategy=balanced&parameters.similarity=0.5&parameters.pool=100",
            {"strategy": "balanced", "parameters": {"similarity": 0.5, "pool": 100}},
        ),
        (
            "user_context.goal=variety&user_context.recent_skips=3",
            {"user_context": {"goal": "variety", "recent_skips": 3}},
        ),
        ("near_duplicates=true&at_least=3", {"near_duplicates": True, "at_least": 3}),
        ("negatives=a&negatives=b%2Fc", {"negatives": ["a", "b/c"]}),
        ("min_offset=3:1207", {"min_offset": {"partition": 3, "offset": 1207}}),
    ],
)
def test_means_the_same_as_the_request(query: str, request_: dict[str, object]) -> None:
    """Each parameter is the request's own, whose rules hold."""
    expected = RecommendationQuery.model_validate({"track_id": "x", **request_})
    assert Questions().read(query.encode()).about("x") == expected


@pytest.mark.parametrize(
    ("query", "listed", "stored"),
    [
        ("", True, True),
        ("top_k=50", True, True),
        ("strategy=similar&exclude=a", True, False),
        ("strategy=diverse", False, True),
        ("strategy=complementary&top_k=5&era=Baroque", False, True),
        ("era=Baroque", False, True),
        ("strategy=popular&exclude=a", False, False),
        ("negatives=a", False, False),
        ("strategy=auto&user_context.goal=variety", False, False),
        ("min_offset=3:4", True, True),
    ],
)
def test_knows_what_can_answer(query: str, listed: bool, stored: bool) -> None:
    """A list answers similarity with any length and exclusions; a kept body whatever is not for one reader."""
    question = Questions().read(query.encode())
    assert (question.listed, question.variant is not None) == (listed, stored)


def test_one_question_has_one_kept_body() -> None:
    """Other names and another order of parameters find the same body; another value another one."""
    questions = Questions()
    first = questions.read(b"strategy=complementary&era=Baroque&top_k=5")
    same = questions.read(b"top_k=5&era=Baroque&strategy=diverse&mode=cluster")
    other = questions.read(b"top_k=6&era=Baroque&strategy=diverse&mode=cluster")
    assert (first.strategy, first.mode, first.variant) == (same.strategy, same.mode, same.variant)
    assert first.variant != other.variant
    assert (
        questions.read(b"strategy=diverse").variant
        == questions.read(b"strategy=diverse&mode=mmr").variant
        == 0
    )


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"top_k": 0},
        {"track_id": "a\nb"},
        {"track_id": "a", "strategy": "best"},
        {"track_id": "a", "strategy": "hybrid", "mode": "mmr"},
        {"track_id": "a", "caps": {"composers": 1}},
        {"track_id": "a", "filters": {"mood": "calm"}},
        {"track_id": "a", "at_least": 11},
        {"track_id": "a", "exclude": [""] * 30},
        {"track_id": "a", "eras": "Baroque"},
    ],
)
def test_http_and_kafka_refuse_alike(asked: dict[str, object]) -> None:
    """The same problem, but for what a message has fields of its own."""
    with pytest.raises(ProblemError) as http:
        checked(asked)
    with pytest.raises(InvalidRequest) as kafka:
        parse_request(None, orjson.dumps({"request_id": "r", **asked}))
    told = kafka.value.problem.model_dump()
    document = problem_document(http.value, "/recommend")
    del document["instance"]
    if "eras" in asked:
        assert set(told.pop("known")) - set(document.pop("known")) == {"request_id", "deadline", "hits"}
    assert document == told


@given(raw=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_a_question_or_refused(raw: bytes) -> None:
    """No query string, however broken, does worse than a 422 that names a field."""
    try:
        Questions().read(raw)
    except ProblemError as problem:
        refused = problem
    else:
        return
    assert refused.status_code == 422
    assert refused.members["errors"]

"""Query strings in the terms of a request, and which of the ways of answering each can take."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.problems import ApiProblemError, invalid_parameters_problem, problem_document
from serving.recommend.questions import QuestionReader, checked_request, in_query_terms
from streams.contracts import InvalidRequest, RecommendationQuery, parse_request

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
            "extra.mood_not=calm&extra.mood_not=2&extra.bpm_min=60&extra.bpm_max=90.5&extra.bpm=80&extra._not=x",
            {
                "filters": {
                    "extra.mood": {"not": ["calm", 2]},
                    "extra.bpm": {"any": [80], "min": 60, "max": 90.5},
                    "extra._not": ["x"],
                }
            },
        ),
        (
            "extra.isbn=007&extra.name=nan&extra.more=99999999999999999999999&extra.far=1e400&extra.no=null",
            {
                "filters": {
                    "extra.isbn": ["007"],
                    "extra.name": ["nan"],
                    "extra.more": ["99999999999999999999999"],
                    "extra.far": ["1e400"],
                    "extra.no": ["null"],
                }
            },
        ),
        (
            "max_per_composer=2&max_per_album=1&max_list_share=0.01",
            {"caps": {"composer": 2, "album": 1, "list_share": 0.01}},
        ),
        ("max_per_composer=1&cap_anonymous=true", {"caps": {"composer": 1, "anonymous": True}}),
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
        ("min_offset=1000000:9223372036854775807", {"min_offset": {"partition": 10**6, "offset": 2**63 - 1}}),
        ("min_offset=3:1207", {"min_offset": {"partition": 3, "offset": 1207}}),
    ],
)
def test_means_the_same_as_the_request(query: str, request_: dict[str, object]) -> None:
    """Each parameter is the request's own, whose rules hold."""
    expected = RecommendationQuery.model_validate({"track_id": "x", **request_})
    assert QuestionReader().read(query.encode()).about("x") == expected


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
    """A list answers similarity with any length and exclusions; a materialised response any question that is not for one reader."""
    question = QuestionReader().read(query.encode())
    assert (question.listed, question.variant is not None) == (listed, stored)


def test_one_question_has_one_kept_body() -> None:
    """Other names and another order of parameters find the same body; another value another one."""
    questions = QuestionReader()
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
    ("query", "told"),
    [
        ("top_k=99999999999999999999999", "top_k: must be at most 50"),
        (f"top_k={'9' * 5_000}", "top_k: must be between 1 and 50"),
        ("top_k=ten", "top_k: must be a whole number"),
        ("duration_seconds_min=1e400", "duration_seconds_min: must be a finite number"),
        ("year_composed=early", "year_composed: must be a number"),
        ("max_list_share=nan", "max_list_share: must be a finite number"),
        ("parameters.lambda=abc", "parameters.lambda: must be a number or true or false"),
        ("parameters.lambda=nan", "parameters.lambda: must be a number or true or false"),
        ("user_context.seed=18446744073709551616", "user_context.seed: must be at most 2147483647"),
        ("extra.mood=a%00b", "extra.mood: contains a NUL character, which cannot be stored"),
        (
            "extra.mo%00od=a",
            "extra.mo\N{REPLACEMENT CHARACTER}od: contains a NUL character, which cannot be stored",
        ),
        ("extra.mood=", "extra.mood: must not be empty"),
        ("extra.bpm_min=1&extra.bpm_min=2", "extra.bpm_min: is given more than once"),
        ("filters.era=Baroque", "filters.era: is not a parameter of this path"),
        ("min_offset=3", "min_offset: is not partition:offset, two whole numbers"),
        ("min_offset=%EF%BC%93:%EF%BC%94", "min_offset: is not partition:offset, two whole numbers"),
        ("min_offset=0:99999999999999999999", "min_offset: offset must be at most 9223372036854775807"),
        ("min_offset=1000001:0", "min_offset: partition must be at most 1000000"),
        ("min_offset=1:2&min_offset=1:3", "min_offset: is given more than once"),
        ("exclude=", "exclude: must not be empty"),
        ("exclude=a&exclude=b%0Ac", "exclude: value 2: 'b\\nc' contains a control or format character"),
    ],
)
def test_what_is_wrong_is_told_of_the_parameter(query: str, told: str) -> None:
    """By its name in the query string, with its real bounds, once."""
    with pytest.raises(ApiProblemError) as caught:
        QuestionReader().read(query.encode())
    errors = [f"{error['field']}: {error['message']}" for error in caught.value.members["errors"]]
    assert errors == [told]


def test_a_track_is_not_to_be_kept_away_from_itself() -> None:
    """A question that names a track as a negative is none about that track; about any other one it is."""
    questions = QuestionReader()
    for name in ("a", "-", "--"):
        question = questions.read(f"negatives={name}&negatives=-".encode())
        assert question.about("b").track_id == "b"
        with pytest.raises(ApiProblemError) as caught:
            question.about(name)
        assert caught.value.members["errors"][0]["field"] == "negatives"


@pytest.mark.parametrize(
    "query",
    [
        "strategy=random&parameters.seed=99999999999999999999999999",
        "strategy=diverse&parameters.lambda=99999999999999999999999",
        "strategy=popular&parameters.pool=18446744073709551616",
        "extra.foo=99999999999999999999999",
    ],
)
def test_a_number_of_any_length_can_be_asked(query: str) -> None:
    """Whether a strategy takes it, its worker says: what is asked can be written down, and told apart."""
    question = QuestionReader().read(query.encode())
    assert question.variant not in {None, 0}
    assert question.about("x").asked


def test_a_problem_names_parameters_of_the_query_string() -> None:
    """What a worker refuses is in the request's terms; who asked by a query string reads their own."""
    worker = invalid_parameters_problem(
        [
            ("filters.year_composed", "min is above max"),
            ("filters.extra.bpm", "must be a number"),
            ("filters.recording_date.min", "must be a date"),
            ("caps.list_share", "a"),
            ("caps.composer", "b"),
            ("track_id", "c"),
            ("parameters.pool", "d"),
        ]
    )
    with pytest.raises(ApiProblemError) as caught, in_query_terms(track_id="seed"):
        raise worker
    fields = [error["field"] for error in caught.value.members["errors"]]
    assert fields == [
        "year_composed",
        "extra.bpm",
        "recording_date_min",
        "max_list_share",
        "max_per_composer",
        "seed",
        "parameters.pool",
    ]
    assert caught.value.detail.startswith("year_composed: min is above max; extra.bpm: ")


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
    with pytest.raises(ApiProblemError) as http:
        checked_request(asked)
    with pytest.raises(InvalidRequest) as kafka:
        parse_request(None, orjson.dumps({"request_id": "r", **asked}))
    told = kafka.value.problem.model_dump()
    document = problem_document(http.value, "/recommend")
    del document["instance"]
    if "eras" in asked:
        assert set(told.pop("known")) - set(document.pop("known")) == {"request_id", "timeout_ms", "hits"}
    assert document == told


@given(raw=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_a_question_or_refused(raw: bytes) -> None:
    """No query string, however broken, does worse than a 422 that names a field."""
    try:
        QuestionReader().read(raw)
    except ApiProblemError as problem:
        refused = problem
    else:
        return
    assert refused.status_code == 422
    assert refused.members["errors"]

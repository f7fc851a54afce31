"""Problem documents of requests that break the contract."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from streams.contracts.problems import (
    PROBLEM_PREFIX,
    InvalidRequest,
    ProblemDetails,
    field_error,
    invalid_parameters,
    request_refusal,
    unknown_space,
)

pytestmark = pytest.mark.unit


class Asked(BaseModel):
    """A request with a field of each kind."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(10, ge=1, le=50)
    weight: float = Field(0.5, gt=0.0, lt=1.0, allow_inf_nan=False)
    mode: Literal["mmr", "cluster"] = "mmr"
    seeds: list[str] = Field(default_factory=list, max_length=2)
    filters: dict[str, int] = Field(default_factory=dict)
    live: bool = False

    @model_validator(mode="after")
    def _together(self) -> "Asked":
        if self.top_k == 13:
            raise field_error("seeds", "are too few for 13")
        if self.top_k == 17:
            raise PydanticCustomError("unknown-strategy", "is none of a, b", {"known": ["a", "b"]})
        return self


def refusal(**given: Any) -> ProblemDetails:
    """What is answered to a request."""
    with pytest.raises(ValidationError) as error:
        Asked.model_validate(given)
    return request_refusal(error.value, Asked)


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"top_k": 0}, "top_k: must be at least 1."),
        ({"top_k": 51}, "top_k: must be at most 50."),
        ({"top_k": "many"}, "top_k: must be a whole number."),
        ({"top_k": 1.5}, "top_k: must be a whole number."),
        ({"weight": 0}, "weight: must be above 0."),
        ({"weight": 1}, "weight: must be below 1."),
        ({"weight": float("nan")}, "weight: must be a finite number."),
        ({"mode": "loud"}, "mode: must be 'mmr' or 'cluster'."),
        ({"seeds": ["a", "b", "c"]}, "seeds: must have at most 2 entries."),
        ({"seeds": ["a", 7]}, "seeds.1: must be text."),
        ({"seeds": "a"}, "seeds: must be a list."),
        ({"filters": {"era": "x"}}, "filters.era: must be a whole number."),
        ({"live": "perhaps"}, "live: must be true or false."),
        ({"top_k": 13}, "seeds: are too few for 13."),
        ({"top_k": 0, "live": 7}, "top_k: must be at least 1; live: must be true or false."),
    ],
)
def test_each_part_at_fault_is_named_in_words_of_the_contract(given: dict[str, Any], detail: str) -> None:
    """By its place in the request, without what was given: that may be megabytes."""
    problem = refusal(**given)
    assert (problem.status, problem.type, problem.detail) == (
        422,
        f"{PROBLEM_PREFIX}invalid-parameters",
        detail,
    )


def test_an_unknown_field_lists_the_known_ones() -> None:
    """At the top alone: a part within has fields of its own."""
    problem = refusal(topk=3)
    assert problem.detail == "topk: is not a field of a request."
    assert problem.model_extra == {"known": sorted(Asked.model_fields)}


def test_an_unknown_strategy_is_a_problem_of_its_own() -> None:
    """With the strategies that there are."""
    problem = refusal(top_k=17)
    assert (problem.type, problem.title) == (f"{PROBLEM_PREFIX}unknown-strategy", "Unknown strategy")
    assert problem.model_extra == {"known": ["a", "b"]}


def test_the_first_twenty_errors_are_told_and_the_others_counted() -> None:
    """A request of thousands of faults has an answer that can be read."""
    problem = invalid_parameters([(f"seeds.{n}", "must be text") for n in range(1_025)])
    assert len(problem.errors) == 20
    assert problem.detail is not None
    assert problem.detail.endswith("seeds.19: must be text; and 1,005 more.")
    assert problem.model_extra == {"left_out": 1_005}
    assert InvalidRequest(problem).detail == "seeds.0: must be text (and 1024 more)"


def test_names_that_callers_choose_are_shortened_and_printable() -> None:
    """They come back in a log and on a terminal."""
    problem = invalid_parameters([("a\x1b[31m" + "b" * 500, "is\x00 " + "c" * 1_000)])
    (error,) = problem.errors
    assert error.field == "a\N{REPLACEMENT CHARACTER}[31m" + "b" * 113 + "…"
    assert (len(error.field), len(error.message)) == (120, 600)
    assert error.field.isprintable()
    assert error.message.isprintable()


def test_one_error_is_told_alone() -> None:
    """Over Kafka, in one line."""
    assert InvalidRequest(invalid_parameters([("top_k", "is missing")])).detail == "top_k: is missing"


def test_a_space_that_serves_nothing_lists_those_that_do() -> None:
    """In order."""
    problem = unknown_space("mert", ["default", "clap"])
    assert problem.status == 404
    assert problem.detail == "No generation of space 'mert' serves; spaces that serve: clap, default."
    assert (problem.model_extra or {})["known"] == ["clap", "default"]

"""Questions as the API takes them: what a URL can say, and what needs a body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from pydantic import BaseModel

Scalar = str | float | bool
# By metadata field (others as `extra.<key>`): a value, a list of which one is enough, or `{"any", "all", "not", "min", "max"}`.
Filters = Mapping[str, Scalar | Sequence[Scalar] | Mapping[str, Any]]
# A track id, or one with a weight.
Seed = str | Mapping[str, Any]


class QuestionOptions(TypedDict, total=False):
    """What every question may say beside what it starts from; the API's documentation has the meaning of each."""

    space: str
    top_k: int
    weights: Mapping[str, float]
    strategy: str
    mode: str
    parameters: Mapping[str, Any]
    exclude: Sequence[str]
    negatives: Sequence[Seed]
    filters: Filters
    caps: Mapping[str, Any]
    hub_correction: float
    near_duplicates: bool | Mapping[str, Any]
    at_least: int
    user_context: Mapping[str, Any]
    min_offset: tuple[int, int]


class BatchResults(BaseModel):
    """The answer to many questions: for each an answer, or a problem document in its place."""

    results: list[dict[str, Any]]


class Question(QuestionOptions, total=False):
    """One question of many: exactly one of `track_id`, `seeds` and `embedding` says what to start from."""

    track_id: str
    seeds: Sequence[Seed]
    embedding: Sequence[float] | Mapping[str, Any]


# What a URL can say, so that the answer may come from the API's memory.
_IN_URL = frozenset({"space", "top_k", "strategy", "mode", "exclude", "min_offset", "weights"})


@dataclass(frozen=True)
class Call:
    """One request, before any transport has seen it."""

    method: Literal["GET", "POST"]
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None


def track_path(track_id: str) -> str:
    """A track id as one segment of a path: percent-encoded, slashes and dots that clients would resolve included."""
    return {".": "%2E", "..": "%2E%2E"}.get(track_id) or quote(track_id, safe="")


def question_call(question: Mapping[str, object]) -> Call:
    """A question about one track by its URL where that can say all of it, else as a body."""
    options = dict(question)
    track_id = options.pop("track_id", None)
    if track_id is None or options.keys() - _IN_URL:
        return Call("POST", "/recommend", json=question_body(question))
    if isinstance(event := options.get("min_offset"), tuple):
        options["min_offset"] = f"{event[0]}:{event[1]}"
    if isinstance(weights := options.get("weights"), Mapping):
        options["weights"] = weights_text(weights)
    return Call("GET", f"/recommend/{track_path(str(track_id))}", params=options)


def weights_text(weights: Mapping[str, float]) -> str:
    """Weights of aspects as a URL has them."""
    return ",".join(f"{name}:{weight:f}" for name, weight in weights.items())


def question_body(question: Mapping[str, object]) -> dict[str, Any]:
    """A question as the JSON that the API takes."""
    body = dict(question)
    if isinstance(event := body.get("min_offset"), tuple):
        body["min_offset"] = {"partition": event[0], "offset": event[1]}
    return body


def given_parameters(**parameters: Any) -> dict[str, Any]:
    """The parameters that have a value."""
    return {name: value for name, value in parameters.items() if value is not None}

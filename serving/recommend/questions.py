"""The query parameters of recommendations, and their conversion to the contract's requests."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import orjson
from cachetools import LRUCache
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from serving import problems
from serving.models import SPACE
from serving.parameters import QueryReader
from serving.problems import ApiProblemError
from serving.recommend.as_of import AsOf, AsOfParameter, parse_as_of
from serving.recommend.playlists import ListFormat
from store.materialised import Place
from streams.contracts import (
    DEFAULT_TOP_K,
    MAX_EXCLUDED,
    MAX_TOP_K,
    RecommendationQuery,
    SpaceName,
    Text,
    TrackId,
    request_refusal,
    track_key,
)
from streams.metadata_fields import DATE_FIELDS, LIST_FIELDS, METADATA, NUMBER_FIELDS
from streams.strategies import registry
from streams.strategies.aspects import WEIGHTS_PATTERN, parse_weights

# Longer numbers than allowed are parsed, up to a length, so that the error can say that they are out of bounds.
_OFFSET = re.compile(r"([0-9]{1,100}):([0-9]{1,100})")
# Bounds: a partition up to a million, an offset below 2^63.
_DATE_PATTERN = r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$"
_OFFSET_PATTERN = r"^0*([0-9]{1,6}|1000000):0*[0-9]{1,18}$"
_RANGES = (*NUMBER_FIELDS, *DATE_FIELDS)
_FILTERED = tuple(field.name for field in METADATA)
# Number of parsed query strings that are cached: most readers use one of a few.
_REMEMBERED = 2_048
_REMEMBERED_BYTES = 1_024


def _offset(value: str) -> str:
    if not _OFFSET.fullmatch(value):
        raise ValueError("is not partition:offset, two whole numbers")
    return value


def _weights(value: str) -> str:
    parse_weights(value)
    return value


Weights = Annotated[str, Field(json_schema_extra={"pattern": WEIGHTS_PATTERN}), AfterValidator(_weights)]
WeightsParameter = Annotated[
    Weights | None,
    Field(
        description="How much each aspect counts, as `aspect:weight` separated by commas: only their relation does. One that "
        "is left out counts nothing, a negative weight seeks what is unlike in it; the catalogue's own weights if not given.",
        examples=["rhythm:0.7,melody:0.3"],
    ),
]
Offset = Annotated[str, Field(json_schema_extra={"pattern": _OFFSET_PATTERN}), AfterValidator(_offset)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _QuestionParameters(BaseModel):
    """Parameters of recommendations, without the starting point; frozen, as defaults are shared."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    space: SpaceName = SPACE
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="How many tracks to recommend.")
    strategy: Text = Field(
        default=registry.DEFAULT,
        json_schema_extra={"enum": list(registry.NAMES)},
        description="How to choose: a name or alias that `/strategies` lists.",
        examples=["similarity"],
    )
    mode: Text | None = Field(
        default=None,
        description="A mode of the strategy, where it has any.",
        examples=["mmr"],
        json_schema_extra={"enum": [mode for each in registry.STRATEGIES for mode in each.mode_names]},
    )
    exclude: list[TrackId] = Field(
        default=[],
        max_length=MAX_EXCLUDED,
        description="A track id that must not be recommended; repeat the parameter for several.",
    )
    negatives: list[TrackId] = Field(
        default=[], max_length=100, description="A track to keep away from; repeat it for several."
    )
    weights: WeightsParameter = None
    max_per_composer: int | None = Field(
        default=None, ge=1, le=MAX_TOP_K, description="Tracks of one composer, at most."
    )
    max_per_artist: int | None = Field(
        default=None, ge=1, le=MAX_TOP_K, description="Tracks of one artist, at most."
    )
    max_per_album: int | None = Field(
        default=None, ge=1, le=MAX_TOP_K, description="Tracks of one album, at most."
    )
    max_list_share: Finite | None = Field(
        default=None, ge=0, le=1, description="Leaves out tracks that more than this share of all lists hold."
    )
    cap_anonymous: bool = Field(
        default=False,
        description="Whether `max_per_composer` holds for Anonymous, Traditional and other words for no composer, all of "
        "them together.",
    )
    near_duplicates: bool = Field(
        default=False, description="Whether of tracks that nearly repeat each other only one is listed."
    )
    at_least: int | None = Field(
        default=None,
        ge=0,
        le=MAX_TOP_K,
        description="Conditions are relaxed until so many are listed; `top_k` if not given; 0: never.",
    )
    min_offset: Offset | None = Field(
        default=None,
        description="`partition:offset` of an event of `track-ingest` that the answer must have taken in.",
        examples=["3:1207"],
    )


def _filters() -> dict[str, Any]:
    """The filters of each metadata field: equal, not equal, and bounds if its values have an order."""
    made: dict[str, Any] = {}
    for name in _FILTERED:
        kind = Finite if name in NUMBER_FIELDS else Text
        listed = name in LIST_FIELDS
        has = f"Has this {(name.removesuffix('s') if listed else name).replace('_', ' ')}"
        wanted: Any = Field(default=[], max_length=100, description=f"{has}; repeat it for any of several.")
        unwanted: Any = Field(
            default=[], max_length=100, description=f"{has.replace('Has', 'Does not have')}."
        )
        made[name] = (list[kind], wanted)  # type: ignore[valid-type]
        made[f"{name}_not"] = (list[kind], unwanted)  # type: ignore[valid-type]
        if listed:
            every: Any = Field(
                default=[], max_length=100, description=f"{has}; repeat it for all of several."
            )
            made[f"{name}_all"] = (list[kind], every)  # type: ignore[valid-type]
    for name in _RANGES:
        kind = Finite if name in NUMBER_FIELDS else Text
        said = name.replace("_", " ")
        form: Any = {"pattern": _DATE_PATTERN} if name in DATE_FIELDS else None
        made[f"{name}_min"] = (
            kind | None,
            Field(default=None, description=f"Least {said}.", json_schema_extra=form),
        )
        made[f"{name}_max"] = (
            kind | None,
            Field(default=None, description=f"Greatest {said}.", json_schema_extra=form),
        )
    return made


# Fields of a request with another name in query strings.
_SPELLED: Final = (
    ("filters.", ""),
    ("caps.list_share", "max_list_share"),
    ("caps.anonymous", "cap_anonymous"),
    ("caps.", "max_per_"),
)
# Members of objects in a request that are parameters in a query string.
_BOUND: Final = re.compile(r"\.(min|max|not)$")

# Prefixes of parameters with free names: `extra.<key>`, `parameters.<name>`, `user_context.<key>`.
DOTTED = ("extra", "parameters", "user_context")

_FORMAT: Any = Field(
    default=None, description="How the list is written: JSON, or a playlist. Counts more than `Accept`."
)
RecommendQuery: type[_QuestionParameters] = create_model(
    "RecommendQuery",
    __base__=_QuestionParameters,
    format=(ListFormat | None, _FORMAT),
    as_of=(AsOfParameter, None),
    **_filters(),
)
RecommendQuery.__doc__ = "Parameters of a recommendation."


class ExplanationQuery(_QuestionParameters):
    """Parameters of an explanation."""

    seed: TrackId = Field(description="The reference track.", examples=["bach/bwv66.6"])
    candidate: TrackId = Field(description="The track whose place is asked for.", examples=["bach/bwv83.5"])


ExplainQuery: type[ExplanationQuery] = create_model("ExplainQuery", __base__=ExplanationQuery, **_filters())
ExplainQuery.__doc__ = ExplanationQuery.__doc__


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """One parsed question.

    Attributes:
        query: The contract's request.
        strategy: The strategy's own name.
        mode: Its mode.
        listed: Whether a stored neighbour list answers it: similarity, with `top_k` and `exclude` only.
        variant: The variant of the materialised response that answers it; None if none does.
        event: Partition and offset of the event that the answer must include.
        as_of: The time or version of which the list is asked for; None: now.
    """

    query: RecommendationQuery
    strategy: str
    mode: str | None
    listed: bool
    variant: int | None
    event: tuple[int, int] | None
    as_of: AsOf | None = None

    def about(self, track_id: str) -> RecommendationQuery:
        """The question for a track with a valid id.

        Raises:
            ProblemError: 422, if that track is one of the negatives.
        """
        about = self.query.model_copy(update={"track_id": track_id})
        return (
            checked_request(about.model_dump(by_alias=True, exclude_defaults=True))
            if about.negatives
            else about
        )

    def place(self, track_id: str) -> Place | None:
        """The primary key of the materialised response for a track; None if none can answer."""
        if self.variant is None:
            return None
        return track_key(track_id), self.strategy, self.mode or "", self.variant


def question_of(query: RecommendationQuery) -> ReadQuestion:
    """The question of a request."""
    strategy, mode = query.canonical
    event = None if query.min_offset is None else (query.min_offset.partition, query.min_offset.offset)
    # The wait for an event happens here; the store gets the question without it.
    plain = query.model_copy(update={"min_offset": None})
    return ReadQuestion(query, strategy, mode, _listed(plain, strategy), plain.variant(), event)


def _listed(query: RecommendationQuery, strategy: str) -> bool:
    if query.track_id is None or strategy != registry.DEFAULT:
        return False
    asked = query.model_dump(exclude_defaults=True).keys()
    return asked <= {"space", "track_id", "strategy", "top_k", "exclude"}


class QuestionReader:
    """Parses query strings to questions, with a cache."""

    def __init__(self) -> None:
        self._reader = QueryReader(RecommendQuery, dotted=DOTTED)
        self._remembered: LRUCache[bytes, ReadQuestion] = LRUCache(_REMEMBERED)

    def read(self, query_string: bytes) -> ReadQuestion:
        """The question of a query string.

        Raises:
            ProblemError: 422, naming each parameter at fault.
        """
        found = self._remembered.get(query_string)
        if found is None:
            asked, dotted = self._reader.read_all(query_string)
            # The question does not depend on the track, unless it names tracks itself.
            some = next(name for n in itertools.count(1) if (name := "-" * n) not in asked.negatives)
            with in_query_terms():
                found = question_of(checked_request(asked_by(asked, dotted, track_id=some)))
            if (as_of := getattr(asked, "as_of", None)) is not None:
                found = _as_of(
                    found, as_of, {*asked.model_dump(exclude_defaults=True), *filter(dotted.get, dotted)}
                )
            if len(query_string) <= _REMEMBERED_BYTES:
                self._remembered[query_string] = found
        return found


# What may stand beside `as_of`: a stored list answers it.
_OF_PAST_LISTS: Final = frozenset({"as_of", "space", "top_k", "exclude", "format", "strategy"})


def _as_of(question: ReadQuestion, text: str, given: set[str]) -> ReadQuestion:
    """The question about a past list.

    Args:
        question: What is asked of it.
        text: The time or the version.
        given: The parameters that do not have their defaults.

    Raises:
        ProblemError: 422, if a stored list does not answer it.
    """
    computed = given - _OF_PAST_LISTS
    if question.strategy != registry.DEFAULT:
        computed.add("strategy")
    if computed:
        others = ", ".join(sorted(computed))
        message = f"reads stored lists, which do not answer {others}: leave these out"
        raise problems.invalid_parameters_problem([("as_of", message)])
    return replace(question, as_of=parse_as_of(text))


def checked_request(payload: dict[str, Any]) -> RecommendationQuery:
    """A validated request from plain values.

    Raises:
        ProblemError: 422, naming each field at fault.
    """
    try:
        return RecommendationQuery.model_validate(payload)
    except ValidationError as error:
        raise problems.refused_request(request_refusal(error, RecommendationQuery)) from None


@contextmanager
def in_query_terms(**renamed: str) -> Iterator[None]:
    """Translate the fields of a problem that is raised inside to their names in query strings.

    Args:
        renamed: Names that only this path uses, by the request's names.

    Raises:
        ProblemError: The translated problem.
    """
    try:
        yield
    except ApiProblemError as problem:
        errors = problem.members.get("errors")
        if not errors:
            raise
        left_out = problem.members.get("left_out", 0)
        spelled = [_spelled(each["field"], each["message"], renamed) for each in errors]
        told = problems.invalid_parameters_problem(spelled, left_out=left_out)
        detail = told.detail if problem.status_code == told.status_code else problem.detail
        members = {**problem.members, "errors": told.members["errors"]}
        raise ApiProblemError(
            problem.status_code, problem.name, problem.title, detail, headers=problem.headers, **members
        ) from None


def _spelled(field: str, message: str, renamed: dict[str, str]) -> tuple[str, str]:
    if field.startswith("min_offset."):
        return "min_offset", f"{field.removeprefix('min_offset.')} {message}"
    for ours, theirs in _SPELLED:
        if field.startswith(ours):
            return theirs + _BOUND.sub(r"_\1", field.removeprefix(ours)), message
    return renamed.get(field, field), message


def asked_by(
    asked: _QuestionParameters, dotted: dict[str, dict[str, list[str]]], **start: Any
) -> dict[str, Any]:
    """The request for query parameters, as plain values.

    Args:
        asked: Parameters with fixed names.
        dotted: Parameters with free names, by their prefix.
        start: The starting point, and further members.
    """
    given = asked.model_dump(exclude_defaults=True)
    request = {name: given[name] for name in _SAME if name in given} | start
    caps = {name.removeprefix("max_per_"): given[name] for name in _CAPS if name in given}
    if "max_list_share" in given:
        caps["list_share"] = given["max_list_share"]
    if "cap_anonymous" in given:
        caps["anonymous"] = given["cap_anonymous"]
    filters = _asked_filters(given) | _extra_filters(dotted["extra"])
    if "min_offset" in given:
        partition, offset = given["min_offset"].split(":")
        request["min_offset"] = {"partition": int(partition), "offset": int(offset)}
    if "weights" in given:
        request["weights"] = parse_weights(given["weights"])
    singles = {
        name: {key: _single(name, key, texts) for key, texts in dotted[name].items()}
        for name in ("parameters", "user_context")
    }
    parts = {"caps": caps, "filters": filters, **singles}
    return request | {name: part for name, part in parts.items() if part}


_SAME = ("space", "strategy", "mode", "top_k", "exclude", "negatives", "near_duplicates", "at_least")
_CAPS = ("max_per_composer", "max_per_artist", "max_per_album")


def _asked_filters(given: dict[str, Any]) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for name in _FILTERED:
        parts = {
            "any": given.get(name),
            "not": given.get(f"{name}_not"),
            "min": given.get(f"{name}_min"),
            "max": given.get(f"{name}_max"),
            "all": given.get(f"{name}_all"),
        }
        condition = {word: value for word, value in parts.items() if value is not None}
        if condition.keys() == {"any"}:
            filters[name] = condition["any"][0] if len(condition["any"]) == 1 else condition["any"]
        elif condition:
            filters[name] = condition
    return filters


def _extra_filters(given: dict[str, list[str]]) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for key, texts in given.items():
        name, word = key, "any"
        for ending in ("not", "min", "max"):
            if key.endswith(f"_{ending}") and len(key) > len(ending) + 1:
                name, word = key.removesuffix(f"_{ending}"), ending
        several = word in {"any", "not"}
        value = [_word(text) for text in texts] if several else _single("extra", key, texts)
        filters.setdefault(f"extra.{name}", {})[word] = value
    return {
        name: condition["any"] if condition.keys() == {"any"} else condition
        for name, condition in filters.items()
    }


def _word(text: str) -> bool | int | float | str:
    """A value to compare with; digits beyond the range of numbers are text."""
    value = _value(text)
    return text if isinstance(value, float) and text.lstrip("-").isdecimal() else value


def _single(name: str, key: str, texts: list[str]) -> bool | float | str:
    if len(texts) > 1:
        raise problems.invalid_parameters_problem([(f"{name}.{key}", "is given more than once")])
    return _value(texts[0])


def _value(text: str) -> bool | int | float | str:
    """A value of unknown type: true, false or a number if it is valid JSON, else text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text

"""The models of requests for recommendations, the same over Kafka and HTTP."""

import hashlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import numpy as np
import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from streams.contracts.embeddings import (
    MAX_DIMENSION,
    EncodedEmbedding,
    Parts,
    embedding_components,
    read_embedding,
)
from streams.contracts.metadata import TrackMetadata
from streams.contracts.problems import UNKNOWN_STRATEGY, field_error, message_of, refused_value
from streams.contracts.reasons import InvalidEvent, quote_value
from streams.contracts.times import GivenMoment
from streams.contracts.validation import NO_OTHER_NAMES, TrackId
from streams.contracts.values import AS_WHOLE, Finite, Flag, Json, Name, Number, Setting, Text
from streams.generations import DEFAULT_SPACE, SPACE_PATTERN, GenerationName
from streams.strategies import InvalidQuery, registry
from streams.strategies.aspects import (
    MAX_ASPECTS,
    MAX_WEIGHT,
    NAME_PATTERN,
    checked_weights,
)

DEFAULT_TOP_K: Final = 10
MAX_TOP_K: Final = 50
MAX_SEEDS: Final = 100
MAX_EXCLUDED: Final = 1_000
_MAX_CONTEXT_BYTES: Final = 16 * 1024
_MAX_FILTER_BYTES: Final = 64 * 1024

Count = Annotated[int, Field(ge=1, le=MAX_TOP_K), AS_WHOLE]
UpToCount = Annotated[int, Field(ge=0, le=MAX_TOP_K), AS_WHOLE]
Small = Annotated[int, Field(ge=0, le=1_000_000), AS_WHOLE]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1), AS_WHOLE]
RandomSeed = Annotated[int, Field(ge=0, le=2**31 - 1), AS_WHOLE]
Hits = Annotated[int, Field(ge=0, le=1_000_000_000), AS_WHOLE]
TimeoutMilliseconds = Annotated[int, Field(ge=0, le=1_000_000_000), AS_WHOLE]

RequestId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="Chosen by who asks; the reply carries it",
        examples=["r-8f14e45f"],
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class SeedOption(_Strict):
    """A track to start from, or to keep away from, and how much it counts."""

    track_id: TrackId
    weight: Finite = Field(1.0, gt=0, le=1000, description="Relative weight", examples=[2.0])


def _seed(value: Any) -> Any:
    if isinstance(value, str):
        return {"track_id": value}
    if not isinstance(value, dict | SeedOption):
        raise refused_value("must be a track id, or an object of track_id and weight")
    return value


# A seed of weight 1 may be written as its track id alone.
SeedLike = Annotated[SeedOption, BeforeValidator(_seed, json_schema_input_type=TrackId | SeedOption)]

Scalar = Text | Flag | Number
Scalars = Annotated[list[Scalar], Field(min_length=1, max_length=100)]


def _given(kinds: dict[str, JsonValue]) -> JsonValue:
    """One JSON Schema for each name: objects that have a member of this name and type."""
    return [{"required": [name], "properties": {name: {"type": kind}}} for name, kind in kinds.items()]


class FilterCondition(_Strict):
    """Conditions on one metadata field, all of which hold."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": _given(
                {
                    "any": "array",
                    "all": "array",
                    "min": ["number", "string"],
                    "max": ["number", "string"],
                    "not": ["array", "string", "number", "boolean"],
                }
            )
        }
    )

    any: Scalars | None = Field(None, description="One of these", examples=[["Baroque", "Classical"]])
    all: Scalars | None = Field(None, description="All of these; for tags", examples=[["piano", "fugue"]])
    not_: Scalars | Scalar | None = Field(
        None, alias="not", description="None of these", examples=[["Romantic"]]
    )
    min: Finite | Text | None = Field(None, description="At least: a number or a date", examples=[1700])
    max: Finite | Text | None = Field(None, description="At most: a number or a date", examples=[1750])

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(getattr(self, name) is not None for name in ("any", "all", "not_", "min", "max")):
            raise ValueError("must hold any, all, not, min or max")
        return self


# What is wrong with a value of the right type: of a text, or of an object of conditions.
_TELLING: Final = {"value_error", "string_too_short", "string_too_long", "string_unicode"}


def _condition(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError as error:
        telling = [each for each in error.errors(include_url=False) if each["type"] in _TELLING]
        raise ValueError(
            message_of(telling[0])
            if telling
            else "must be text, a number, true or false, a list of 1 to 100 of them, or an object of any, all, not, min, max"
        ) from None


_FILTERED: Final = frozenset(TrackMetadata.model_fields) - {"extra"}


def _filtered(name: str) -> str:
    if name not in _FILTERED and not (name.startswith("extra.") and len(name) > len("extra.")):
        raise ValueError("is not a metadata field; others are filtered on as extra.<key>")
    return name


FilterName = Annotated[
    Text,
    Field(json_schema_extra={"pattern": rf"^({'|'.join(sorted(_FILTERED))}|extra\.[^\u0000]+)$"}),
    AfterValidator(_filtered),
]
# One line of error, whichever of the alternatives a value fails.
FilterValue = Annotated[FilterCondition | Scalars | Scalar, WrapValidator(_condition)]


class CapsOption(_Strict):
    """How many tracks of one composer, artist or album a list may hold; absent: any number."""

    composer: Count | None = Field(None, description="Tracks of one composer", examples=[2])
    artist: Count | None = Field(None, description="Tracks of one artist")
    album: Count | None = Field(None, description="Tracks of one album")
    list_share: Finite | None = Field(
        None,
        ge=0,
        le=1,
        description="Keeps hubs out: tracks that more than this share of all lists hold",
        examples=[0.01],
    )
    anonymous: Flag = Field(
        False,
        description="Whether the cap by composer holds for Anonymous, Traditional and other words for no composer, all of "
        "them together; by default it does not",
    )


class NearDuplicatesOption(_Strict):
    """When two tracks are so alike that a list should hold only one."""

    same_work: Flag = Field(True, description="Another recording of the same work")
    cosine: Finite | None = Field(
        0.995, gt=0, le=1, description="What is at least this similar to a listed track; null: not compared"
    )
    of_seeds: Flag = Field(True, description="Near-duplicates of the seeds too")


def _near(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict | NearDuplicatesOption | None):
        raise refused_value("must be true, false, or an object of same_work, cosine and of_seeds")
    return value


# `true` removes near-duplicates by the default rules, `false` keeps them.
NearDuplicatesLike = Annotated[
    NearDuplicatesOption | None,
    BeforeValidator(_near, json_schema_input_type=bool | NearDuplicatesOption | None),
]


# What `auto` can be told to aim at. Type checkers know no literal that is computed.
if TYPE_CHECKING:
    Goal = str
else:
    Goal = Literal[tuple(registry.GOALS)]


class UserContext(BaseModel):
    """What is known of the listener; further keys are allowed and ignored."""

    # The schema pydantic writes says nothing of the names of further keys.
    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        json_schema_extra={"propertyNames": TypeAdapter(Text).json_schema()},
    )
    __pydantic_extra__: dict[Text, Json]

    goal: Goal | None = Field(None, description="What `auto` is to aim at", examples=["variety"])
    recent_skips: Small | None = Field(None, description="Tracks skipped lately, for `auto`")
    time: GivenMoment = Field(
        None,
        description="Now, as the listener has it: the time window of `random`. Absent: the worker's clock",
    )
    seed: RandomSeed | None = Field(None, description="Another seed, another draw of `random`")

    @model_validator(mode="after")
    def _small(self) -> Self:
        size = len(orjson.dumps(self.__pydantic_extra__))
        if size > _MAX_CONTEXT_BYTES:
            raise ValueError(f"is {size:,} bytes long; at most {_MAX_CONTEXT_BYTES:,} are read")
        return self


def _known(strategy: str) -> str:
    if strategy not in registry.NAMES:
        known = {"names": ", ".join(registry.NAMES), "known": list(registry.NAMES)}
        raise PydanticCustomError(UNKNOWN_STRATEGY, "is none of {names}", known)
    return strategy


StrategyName = Annotated[
    Name, Field(json_schema_extra={"enum": list(registry.NAMES)}), AfterValidator(_known)
]


def _space(name: str) -> str:
    return GenerationName(name).space


SpaceName = Annotated[str, Field(json_schema_extra={"pattern": SPACE_PATTERN}), AfterValidator(_space)]


class MinOffset(_Strict):
    """An event of the ingest topic that the answer must take into account."""

    partition: Small = Field(examples=[3])
    offset: Offset = Field(examples=[1207])


_NAMED_PART: Final = re.compile(r"embedding(?:[.\[]([\w.\[\]-]+))? ")


def _vector(value: Any) -> Any:
    """The components of an embedding, a list or packed, or of its parts, by the rules of track events."""
    try:
        components = embedding_components(value)
        if isinstance(components, dict):
            # What a question leaves out needs no size.
            components = {name: part for name, part in components.items() if part is not None}
        read_embedding(components, None)
    except InvalidEvent as error:
        part = _NAMED_PART.match(error.detail)
        if part is None:
            raise refused_value(error.detail) from None
        message = error.detail[part.end() :]
        if part[1] is None:
            raise refused_value(message) from None
        raise field_error(part[1].replace("[", ".").replace("]", ""), message) from None
    if isinstance(components, dict):
        return {name: np.asarray(part, dtype=np.float64).tolist() for name, part in components.items()}
    return components if isinstance(components, list) else components.tolist()


_Listed = Annotated[list[float], Field(min_length=1, max_length=MAX_DIMENSION)]
Embedding = Annotated[
    list[float] | dict[str, list[float]],
    BeforeValidator(_vector, json_schema_input_type=_Listed | EncodedEmbedding | Parts),
]


def _weights(value: Any) -> Any:
    if not isinstance(value, dict):
        raise refused_value("must be an object of aspects and their weights")
    for name, weight in value.items():
        if type(weight) not in (int, float):
            raise refused_value(f"{quote_value(name)} must be a number")
    try:
        return checked_weights(value)
    except ValueError as error:
        raise refused_value(str(error)) from None


AspectWeights = Annotated[
    dict[
        Annotated[str, Field(pattern=NAME_PATTERN)],
        Annotated[Finite, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)],
    ],
    Field(min_length=1, max_length=MAX_ASPECTS, json_schema_extra={"additionalProperties": False}),
    BeforeValidator(_weights),
]


class RecommendationQuery(_Strict):
    """What to recommend. Exactly one of `track_id`, `seeds` and `embedding` is the starting point."""

    space: SpaceName = Field(
        DEFAULT_SPACE, description="The meaning of similarity: the space whose lists and vectors answer"
    )
    track_id: TrackId | None = Field(None, description="One track")
    seeds: list[SeedLike] | None = Field(
        None, min_length=1, max_length=MAX_SEEDS, description="Several tracks, with weights"
    )
    embedding: Embedding | None = Field(
        None,
        description="Any vector: 1 to 16,384 finite numbers, not all zero, as many as the catalogue's tracks have; "
        "a list, packed, or named parts, as in track events",
        examples=[[0.12, -0.5, 0.33]],
    )
    negatives: list[SeedLike] = Field(
        default_factory=list, max_length=MAX_SEEDS, description="Tracks to keep away from"
    )
    weights: AspectWeights | None = Field(
        None,
        description="How much each aspect counts in the similarity: only their relation does. An aspect that is left out "
        "counts nothing, a negative weight seeks what is unlike in it; absent: the catalogue's own weights",
        examples=[{"rhythm": 0.7, "melody": 0.3}],
    )
    strategy: StrategyName = Field(
        registry.DEFAULT,
        description="A strategy or another name of it",
        examples=["similarity"],
    )
    mode: Name | None = Field(None, description="Mode of the strategy, if it has any")
    parameters: dict[Text, Setting] = Field(
        default_factory=dict,
        max_length=20,
        description="Settings of the strategy, such as lambda of diverse/mmr or the weights of hybrid",
        examples=[{"lambda": 0.5}],
        json_schema_extra=NO_OTHER_NAMES,
    )
    top_k: Count = Field(DEFAULT_TOP_K, description="How many", examples=[10])
    exclude: list[TrackId] = Field(
        default_factory=list, max_length=MAX_EXCLUDED, description="Tracks never to answer with"
    )
    filters: dict[FilterName, FilterValue] = Field(
        default_factory=dict,
        max_length=50,
        description="By metadata field (others as extra.<key>): a value, a list of which one is enough, or conditions",
        examples=[{"era": "Baroque", "year_composed": {"min": 1700, "max": 1750}}],
        json_schema_extra=NO_OTHER_NAMES,
    )
    caps: CapsOption = Field(
        default_factory=CapsOption, description="How many of one composer, artist, album"
    )
    hub_correction: Finite = Field(
        0.0,
        ge=0,
        le=1,
        description="How much a track that is near to everything is held back (1: CSLS)",
        examples=[0.5],
    )
    near_duplicates: NearDuplicatesLike = Field(
        None,
        description="Whether of tracks that nearly repeat each other only one is listed; absent: all are",
    )
    at_least: UpToCount | None = Field(
        None, description="Conditions are relaxed until so many are listed; absent: top_k; 0: never"
    )
    user_context: UserContext = Field(
        default_factory=UserContext, description="What is known of the listener, for strategies that use it"
    )
    candidate: TrackId | None = Field(
        None, description="Say where this track stands in the answer, and why, instead of the answer"
    )
    compare: Flag = Field(False, description="Answer with every strategy side by side")
    min_offset: MinOffset | None = Field(
        None, description="Wait, not for long, until this event has been taken in; then search afresh"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [name for name in ("track_id", "seeds", "embedding") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of track_id, seeds and embedding is needed, not {len(given)}")
        if self.candidate is not None and self.compare:
            raise ValueError("candidate and compare exclude each other")
        if both := self.started & {negative.track_id for negative in self.negatives}:
            raise field_error("negatives", f"{quote_value(min(both))} is what to start from, too")
        if self.at_least is not None and self.at_least > self.top_k:
            raise field_error("at_least", "must be at most top_k")
        if self.filters and len(orjson.dumps(self.wanted_filters())) > _MAX_FILTER_BYTES:
            raise field_error("filters", f"are longer than {_MAX_FILTER_BYTES:,} bytes")
        try:
            registry.find_mode(self.strategy, self.mode)
        except InvalidQuery as error:
            raise field_error(error.field, error.reason) from None
        return self

    @property
    def started(self) -> set[str]:
        """The tracks to start from."""
        seeds = {seed.track_id for seed in self.seeds or ()}
        return seeds if self.track_id is None else {self.track_id}

    @property
    def canonical(self) -> tuple[str, str | None]:
        """The strategy's own name and its mode, whatever name was used."""
        strategy, mode = registry.find_mode(self.strategy, self.mode)
        return strategy.name, mode.name

    @cached_property
    def asked(self) -> bytes:
        """The question as canonical JSON: equal questions have equal bytes, whatever their caller, time and order of fields."""
        whole = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=_NOT_ASKED)
        return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)

    def wanted_filters(self) -> dict[str, Any]:
        """The filters as plain JSON values."""
        return {
            name: value.model_dump(by_alias=True, exclude_none=True)
            if isinstance(value, FilterCondition)
            else value
            for name, value in self.filters.items()
        }

    def variant(self) -> int | None:
        """The variant of the materialised response of (track, strategy, mode) that answers this; 0 for the defaults.

        Another value is a 64-bit hash of everything else that was asked. None: no materialised response can answer it,
        because it starts from more than a track, depends on the listener or the time, or names other tracks.
        """
        if self.track_id is None or any(getattr(self, name) for name in _UNREPEATABLE):
            return None
        if self.user_context != _NOBODY:
            return None
        if all(getattr(self, name) == default for name, default in _VARIED.items()):
            return 0
        whole = self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(_VARIED))
        digest = hashlib.blake2b(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True) or 1


_NOT_ASKED: Final = {"request_id", "timeout_ms", "hits"}
_NOBODY: Final = UserContext()
_UNREPEATABLE: Final = ("negatives", "exclude", "candidate", "compare", "min_offset")
_VARIED: Final[dict[str, Any]] = {
    "weights": None,
    "parameters": {},
    "top_k": DEFAULT_TOP_K,
    "filters": {},
    "caps": CapsOption(),
    "hub_correction": 0.0,
    "near_duplicates": None,
    "at_least": None,
}


class RecommendationRequest(RecommendationQuery):
    """A request of `recommendation-requests`; its key is the request_id.

    A request_id that was answered lately gets the same reply again.
    """

    request_id: RequestId
    timeout_ms: TimeoutMilliseconds | None = Field(
        None,
        description="How long the caller waits, counted from when the broker received the request; later, the reply is a "
        "problem of status 504",
    )
    hits: Hits = Field(
        1,
        description="How often the materialised response was read since the last request, this time included: "
        "the most requested are refreshed first",
    )

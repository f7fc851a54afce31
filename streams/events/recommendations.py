"""Recommendations asked for over Kafka, and the body that answers, over Kafka and HTTP alike."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from streams.events.door import MAX_EVENT_BYTES, TrackId, first_error, load_object
from streams.events.metadata import TrackMetadata
from streams.events.reasons import InvalidEvent, Reason

RequestId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="Chosen by who asks; the reply carries it",
        examples=["r-8f14e45f"],
    ),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Seed(BaseModel):
    """A track to start from, or to keep away from, and how much it counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: TrackId
    weight: Finite = Field(1.0, gt=0, le=1000, description="Relative weight", examples=[2.0])


def _seed(value: Any) -> Any:
    return {"track_id": value} if isinstance(value, str) else value


# A seed of weight 1 may be written as its track id alone.
SeedLike = Annotated[Seed, BeforeValidator(_seed, json_schema_input_type=TrackId | Seed)]
FilterValue = str | int | float | bool | list[str]


class RecommendationQuery(BaseModel):
    """What to recommend. Exactly one of `track_id`, `seeds` and `embedding` says what to start from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: TrackId | None = Field(None, description="One track")
    seeds: list[SeedLike] | None = Field(
        None, min_length=1, max_length=100, description="Several tracks, with weights"
    )
    embedding: list[Finite] | None = Field(None, min_length=1, max_length=16_384, description="Any vector")
    negatives: list[SeedLike] = Field(
        default_factory=list, max_length=100, description="Tracks to keep away from"
    )
    strategy: str = Field(
        "similarity", min_length=1, max_length=50, description="Strategy", examples=["similarity"]
    )
    mode: str | None = Field(
        None, min_length=1, max_length=50, description="Mode of the strategy, if it has any"
    )
    top_k: int = Field(10, ge=1, le=50, description="How many", examples=[10])
    exclude: list[TrackId] = Field(
        default_factory=list, max_length=1000, description="Tracks never to answer with"
    )
    filters: dict[str, FilterValue] = Field(
        default_factory=dict,
        max_length=50,
        description="Metadata key to wanted value or values",
        examples=[{"era": "Baroque"}],
    )
    user_context: dict[str, Any] = Field(
        default_factory=dict,
        max_length=50,
        description="What is known of the listener, for strategies that use it",
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        given = [name for name in ("track_id", "seeds", "embedding") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of track_id, seeds and embedding is needed, not {len(given)}")
        return self


class RecommendationRequest(RecommendationQuery):
    """A request of `recommendation-requests`; its key is the request_id."""

    request_id: RequestId


class SourcePosition(BaseModel):
    """The event that an answer has taken in last."""

    model_config = ConfigDict(frozen=True)

    topic: str = Field(examples=["track-ingest"])
    partition: int = Field(ge=0, examples=[3])
    offset: int = Field(ge=0, examples=[1207])
    event_time: AwareDatetime | None = Field(None, examples=["2026-02-03T04:05:06Z"])


class Recommendation(BaseModel):
    """One recommended track."""

    model_config = ConfigDict(frozen=True)

    track_id: TrackId
    score: float = Field(description="What the strategy ranked by", examples=[0.914])
    similarity_score: float = Field(description="Cosine similarity to the reference", examples=[0.914])
    rank: int = Field(ge=1, description="1 is best", examples=[1])
    strategy_used: str = Field(examples=["similarity"])
    explanation: str = Field(
        description="Why, in a sentence", examples=["Cosine similarity 0.914; same composer"]
    )
    title: str | None = None
    composer: str | None = None
    composer_full: str | None = None
    era: str | None = None
    form: str | None = None
    key_signature: str | None = None
    filename: str | None = None
    tags: list[str] = Field(default_factory=list)
    cached: bool = Field(description="Read from the store, not computed for this answer")
    metadata: dict[str, Any] = Field(default_factory=dict, description="All that is known of the track")


class RecommendationBody(BaseModel):
    """Recommendations, and where they come from."""

    model_config = ConfigDict(frozen=True)

    reference_track: str | None = Field(description="The track they are for; null for seeds and vectors")
    reference_metadata: TrackMetadata | None = None
    strategy: str = Field(examples=["similarity"])
    mode: str | None = None
    cached: bool = Field(description="Read from the store, not computed for this answer")
    computation_time_ms: float = Field(ge=0, examples=[0.4])
    source: SourcePosition | None = Field(None, description="The event that the answer has taken in last")
    generated_at: AwareDatetime = Field(description="When the list was computed")
    stale: bool = Field(description="A newer one is being computed")
    recommendations: list[Recommendation] = Field(max_length=50)


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field("about:blank", description="URI of the kind of problem")
    title: str = Field(description="The kind of problem, for people", examples=["Unknown track"])
    status: int = Field(ge=400, le=599, description="HTTP status", examples=[404])
    detail: str | None = Field(None, description="This occurrence, for people")


class RecommendationReply(BaseModel):
    """The reply to a request: the fields of a recommendation body if `status` is ok, else `error`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: RequestId
    status: Literal["ok", "error"]
    error: Problem | None = None
    reference_track: str | None = None
    reference_metadata: TrackMetadata | None = None
    strategy: str | None = None
    mode: str | None = None
    cached: bool | None = None
    computation_time_ms: float | None = Field(None, ge=0)
    source: SourcePosition | None = None
    generated_at: AwareDatetime | None = None
    stale: bool | None = None
    recommendations: list[Recommendation] | None = Field(None, max_length=50)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status == "error" and self.error is None:
            raise ValueError("a reply with status error needs error")
        if self.status == "ok" and (self.error is not None or self.recommendations is None):
            raise ValueError("a reply with status ok needs recommendations, and no error")
        return self


def parse_request(
    key: bytes | None, value: bytes | None, *, max_bytes: int = MAX_EVENT_BYTES
) -> RecommendationRequest:
    """Read one message of `recommendation-requests`. A missing key is forgiven; another one is not.

    Raises:
        InvalidEvent: the message breaks the contract; nothing else is raised, whatever the bytes.
    """
    asked = load_object(value, max_bytes=max_bytes)
    try:
        request = RecommendationRequest.model_validate(asked)
    except ValidationError as exc:
        raise InvalidEvent(Reason.INVALID_REQUEST, first_error(exc)) from None
    if key and key != request.request_id.encode():
        raise InvalidEvent(Reason.KEY_MISMATCH, "key and request_id differ")
    return request

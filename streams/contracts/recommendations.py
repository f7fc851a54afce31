"""The models of responses: the body, the same over Kafka and HTTP, and Kafka's reply around it.

A body is sent and stored as JSON. The members that change with each delivery come last (`finished_body`), so that they are
appended to bytes that are never parsed.
"""

from typing import Any, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams.contracts.metadata import TrackMetadata
from streams.contracts.problems import InvalidRequest, ProblemDetails, request_refusal
from streams.contracts.queries import RecommendationRequest, RequestId
from streams.contracts.reasons import InvalidEvent, Reason
from streams.contracts.validation import MAX_EVENT_BYTES, TrackId, load_object
from streams.generations import DEFAULT_SPACE


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class SourcePosition(_Frozen):
    """The last event that an answer takes into account."""

    topic: str = Field(examples=["track-ingest"])
    partition: int = Field(ge=0, examples=[3])
    offset: int = Field(ge=0, examples=[1207])
    event_time: AwareDatetime | None = Field(None, examples=["2026-02-03T04:05:06Z"])


class Recommendation(_Frozen):
    """One recommended track."""

    track_id: TrackId
    score: float = Field(description="What the strategy ranked by", examples=[0.914])
    similarity_score: float = Field(
        description="Cosine similarity to the reference; with aspects, the weighted mean of theirs",
        examples=[0.914],
    )
    aspects: dict[str, float | None] = Field(
        default_factory=dict,
        description="By aspect, the cosine similarity to the reference in it; null where either has no such part; empty if the "
        "catalogue's embeddings have no aspects",
        examples=[{"melody": 0.61, "rhythm": 0.98}],
    )
    rank: int = Field(ge=1, description="1 is best", examples=[1])
    strategy_used: str = Field(examples=["similarity"])
    explanation: str = Field(
        description="Why, in a sentence", examples=["Cosine similarity 0.914; same composer"]
    )
    components: dict[str, float] = Field(
        default_factory=dict,
        description="What the score is made of, by name",
        examples=[{"mmr_penalty": 0.12}],
    )
    seed: TrackId | None = Field(None, description="Of several seeds, the one that contributes most")
    contributions: dict[str, float] = Field(
        default_factory=dict, description="Of several seeds, what each adds to the similarity"
    )
    relaxed: list[str] = Field(
        default_factory=list, description="Conditions that it does not meet", examples=[["filters.era"]]
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


class Stage(_Frozen):
    """How many candidates were left after a stage."""

    stage: str = Field(examples=["filters", "relaxed filters.era"])
    held: int = Field(ge=0, examples=[42])


class ChosenStrategy(_Frozen):
    """What `auto` chose, and why."""

    strategy: str = Field(examples=["diverse"])
    mode: str | None = Field(None, examples=["mmr"])
    reason: str = Field(examples=["the listener's goal is variety"])


class RecommendationBody(_Frozen):
    """Recommendations, and their source."""

    reference_track: str | None = Field(description="The track they are for; null for seeds and vectors")
    reference_metadata: TrackMetadata | None = None
    strategy: str = Field(description="As its own name, whatever name was used", examples=["similarity"])
    mode: str | None = None
    weights: dict[str, float] | None = Field(
        None,
        description="How much each aspect counts, scaled so that they sum to 1; null: as in the catalogue's lists",
    )
    chosen: ChosenStrategy | None = Field(None, description="What `auto` chose, and why")
    provisional: bool = Field(
        False, description="The stored list does not have what was asked for yet: this was searched meanwhile"
    )
    relaxed: list[str] = Field(
        default_factory=list,
        description="Conditions that some item does not meet, in the order in which they were relaxed",
        examples=[["caps.composer", "filters.era"]],
    )
    stages: list[Stage] = Field(
        default_factory=list,
        description="How many candidates each stage held, in order; `relaxed <condition>` after a condition was given up",
    )
    notes: list[str] = Field(default_factory=list, description="What else should be known of the answer")
    source: SourcePosition | None = Field(None, description="The event that the answer has taken in last")
    generated_at: AwareDatetime = Field(description="When the list was computed")
    recommendations: list[Recommendation] = Field(max_length=50)
    space: str = Field(DEFAULT_SPACE, description="The space of the generation that it is of")
    generation: int = Field(
        1, ge=1, description="The generation that it is of: one model's embeddings", examples=[2]
    )
    cached: bool = Field(description="Read from the store, not computed for this answer")
    stale: bool = Field(
        description="A newer one is being computed, or the list has not absorbed an event for more than a second"
    )
    behind_seconds: float = Field(
        0.0,
        ge=0,
        description="How old the oldest accepted event is that the list has not absorbed; 0 if there is none",
        examples=[0.05],
    )
    computation_time_ms: float = Field(ge=0, examples=[0.4])


class PlacementBody(_Frozen):
    """Where a candidate stands in an answer, and why."""

    candidate: TrackId
    stage: str = Field(
        description="`listed`, or what kept it out: candidates, seeds, exclude, filters, caps, near_duplicates, top_k",
        examples=["near_duplicates"],
    )
    listed: bool
    rank: int | None = Field(None, ge=1, description="Its rank, where it was ranked")
    detail: str = Field(description="Why, in a sentence")
    similarity_score: float = Field(description="Its cosine similarity to what was asked for")
    aspects: dict[str, float | None] = Field(
        default_factory=dict,
        description="By aspect, the cosine similarity to the reference in it; null where either has no such part; empty if the "
        "catalogue's embeddings have no aspects",
        examples=[{"melody": 0.61, "rhythm": 0.98}],
    )
    recommendation: Recommendation | None = Field(
        None, description="What the list says of it, if it is ranked"
    )
    candidates: int = Field(ge=0, description="How many candidates there were")


class ComparedList(_Frozen):
    """One strategy's list in a comparison, with its measures."""

    strategy: str
    mode: str | None = None
    chosen: ChosenStrategy | None = None
    recommendations: list[Recommendation] = Field(max_length=50)
    relaxed: list[str] = Field(default_factory=list)
    stages: list[Stage] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    intra_list_diversity: float = Field(description="Mean cosine distance of its pairs, 0 to 2")
    novelty: float | None = Field(
        None, description="Mean self-information in bits; null: no listening is known"
    )
    mean_similarity: float = Field(description="Mean cosine similarity to the reference")
    coverage: float = Field(description="Share of the catalogue that it holds")


class ListOverlap(_Frozen):
    """How far two lists agree."""

    one: str = Field(examples=["similarity"])
    other: str = Field(examples=["diverse/mmr"])
    jaccard: float = Field(ge=0, le=1)
    rank_biased_overlap: float = Field(ge=0, le=1.000001)


class Comparison(_Frozen):
    """Every strategy's answer to one question."""

    lists: list[ComparedList]
    overlap: list[ListOverlap]
    coverage: float = Field(description="Share of the catalogue that all lists together hold")
    candidates: int = Field(ge=0, description="How many candidates the one with the most chose from")


class RecommendationReply(BaseModel):
    """The reply to a request: the fields of a recommendation body if `status` is ok, else `error`.

    The reply to a request with `candidate` or `compare` has `placement` or `comparison` instead of recommendations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: RequestId
    status: Literal["ok", "error"]
    error: ProblemDetails | None = None
    reference_track: str | None = None
    reference_metadata: TrackMetadata | None = None
    strategy: str | None = None
    mode: str | None = None
    weights: dict[str, float] | None = None
    chosen: ChosenStrategy | None = None
    provisional: bool = False
    relaxed: list[str] = Field(default_factory=list)
    stages: list[Stage] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    source: SourcePosition | None = None
    generated_at: AwareDatetime | None = None
    recommendations: list[Recommendation] | None = Field(None, max_length=50)
    placement: PlacementBody | None = None
    comparison: Comparison | None = None
    space: str | None = None
    generation: int | None = Field(None, ge=1)
    cached: bool | None = None
    stale: bool | None = None
    behind_seconds: float | None = Field(None, ge=0)
    computation_time_ms: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status == "error" and self.error is None:
            raise ValueError("a reply with status error needs error")
        answers = [x for x in (self.recommendations, self.placement, self.comparison) if x is not None]
        if self.status == "ok" and (self.error is not None or len(answers) != 1):
            raise ValueError(
                "a reply with status ok needs one of recommendations, placement, comparison, and no error"
            )
        return self


def encode_reply(request_id: str, body: bytes) -> bytes:
    """The reply with a finished body, as bytes; `body` is not parsed."""
    return b"%s%s" % (_prefix(request_id), memoryview(body)[1:])


def encode_error(request_id: str, problem: ProblemDetails) -> bytes:
    """The reply with a problem, as bytes."""
    error = problem.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
    return orjson.dumps({"request_id": request_id, "status": "error", "error": error})


def split_reply(request_id: str, value: bytes) -> tuple[bytes | None, dict[str, Any] | None]:
    """The body of a reply as bytes, or its problem as an object; the other is None.

    A body from our workers is cut out without parsing; any other reply is parsed.

    Raises:
        InvalidEvent: it is neither.
    """
    prefix = _prefix(request_id)
    if value.startswith(prefix):
        return b"{%s" % memoryview(value)[len(prefix) :], None
    reply = load_object(value, max_bytes=2 * MAX_EVENT_BYTES)
    if reply.get("status") == "error" and isinstance(error := reply.get("error"), dict):
        return None, error
    if reply.pop("status", None) != "ok" or reply.pop("request_id", None) != request_id:
        raise InvalidEvent(Reason.INVALID_REQUEST, "not a reply to this request")
    return orjson.dumps(reply), None


def _prefix(request_id: str) -> bytes:
    return b'{"request_id":%s,"status":"ok",' % orjson.dumps(request_id)


def parse_request(
    key: bytes | None, value: bytes | None, *, max_bytes: int = MAX_EVENT_BYTES
) -> RecommendationRequest:
    """Read one message of `recommendation-requests`. The key may be missing; if present, it must be the request_id.

    Raises:
        InvalidEvent: the message breaks the contract (`InvalidRequest`, where it is a JSON object at least); nothing
            else is raised, whatever the bytes.
    """
    # The error for a lone surrogate names its field, if it is in one.
    asked = load_object(value, max_bytes=max_bytes, any_text=True)
    try:
        request = RecommendationRequest.model_validate(asked)
    except ValidationError as exc:
        raise InvalidRequest(request_refusal(exc, RecommendationRequest)) from None
    except UnicodeError:
        load_object(value, max_bytes=max_bytes)
        raise
    if key and key != request.request_id.encode():
        raise InvalidEvent(Reason.KEY_MISMATCH, "key and request_id differ")
    return request


def space_of(key: bytes | None, value: bytes | None) -> str:
    """The space that a message of `recommendation-requests` asks for; `default` if it names none or breaks the contract."""
    # Most name none, and are parsed by whoever answers them alone. A backslash may write the name in another way.
    if value is None or not (b"space" in value or b"\\" in value):
        return DEFAULT_SPACE
    try:
        return parse_request(key, value).space
    except Exception:  # noqa: BLE001 -- whoever answers it tells what is wrong
        return DEFAULT_SPACE


def request_id_of(key: bytes | None, value: bytes | None) -> str | None:
    """The request_id to send a refusal to: that of the value, else the key; None if neither is usable.

    It can always be encoded as UTF-8.
    """
    try:
        found = load_object(value, any_text=True).get("request_id")
    except InvalidEvent:
        found = None
    if found is None and key:
        try:
            found = key.decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(found, str) or not 0 < len(found) <= 200:
        return None
    try:
        found.encode()
    except UnicodeEncodeError:
        return None
    return found

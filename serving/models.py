"""The models of requests and answers for the OpenAPI document.

Read paths build their answers as plain values and encode them once; tests validate these against the models.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from store.columns import METADATA_FIELDS
from streams.contracts import (
    Recommendation,
    RecommendationBody,
    SourcePosition,
    SpaceName,
    Text,
    TrackMetadata,
)
from streams.contracts.recommendations import Comparison, PlacementBody
from streams.generations import DEFAULT_SPACE

__all__ = ["Recommendation", "RecommendationBody", "SourcePosition", "TrackMetadata"]

MAX_PAGE = 500
MAX_BATCH = 100
MAX_INCIPITS = 100
MAX_POINTS = 50_000


# The parameter of all paths whose answer depends on embeddings.
SPACE: Any = Field(
    default=DEFAULT_SPACE,
    description="What is alike: the space whose embeddings and lists are read; `/spaces` names those that serve.",
    examples=[DEFAULT_SPACE],
)


class _Query(BaseModel):
    """Query parameters: frozen, as defaults are shared; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpaceQuery(_Query):
    """Parameters of what depends on embeddings: which ones."""

    space: SpaceName = SPACE


class TracksQuery(SpaceQuery):
    """Parameters of a listing."""

    composer: Text | None = Field(
        default=None, description="Exactly this composer, as `/composers` names it.", examples=["Bach"]
    )
    era: Text | None = Field(default=None, description="Exactly this era.", examples=["Baroque"])
    form: Text | None = Field(default=None, description="Exactly this form.", examples=["fugue"])
    search: Text | None = Field(
        default=None,
        description="Words that begin words of title, composer, form, opus, movement, performer, artist, album, era, key,"
        " instrument, tags or the track id; case, accents and punctuation do not count. Where no track has them all, one"
        " typo a word and parts of words are forgiven, and then as few words as need be left out.",
        examples=["brandenb conc"],
    )
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="Tracks on a page, at most.")
    cursor: Text | None = Field(
        default=None, description="`next` of the page before; the filters must be the same."
    )


class NamesQuery(SpaceQuery):
    """Parameters of a list of names."""

    limit: int = Field(default=1000, ge=1, le=10_000, description="Names to list, the most frequent first.")


class TrackSummary(BaseModel):
    """A track: the most used fields, and all of them under `metadata`."""

    track_id: str = Field(examples=["bach/bwv66.6"])
    title: str | None
    composer: str | None
    composer_full: str | None
    era: str | None
    form: str | None
    key_signature: str | None
    filename: str | None = Field(description="`filename` of the catalogue's own extra fields.")
    tags: list[str]
    metadata: TrackMetadata


class TrackList(BaseModel):
    """A track's stored neighbour list."""

    version: int = Field(description="Grows with every rewrite.")
    length: int = Field(description="Neighbours in the list, at most 50.")
    generated_at: AwareDatetime


class TrackDetail(TrackSummary):
    """A track, its source event, and the state of its list."""

    source: SourcePosition
    created_at: AwareDatetime
    updated_at: AwareDatetime
    neighbour_list: TrackList | None = Field(description="null until the list has been computed.")


class TracksPage(BaseModel):
    """One page of tracks, by id; of a search, the best hits first."""

    tracks: list[TrackSummary]
    total: int = Field(description="Tracks on all pages, counted anew for each page.")
    total_exact: bool = Field(description="False where a search has more: it counts 10,000 at most.")
    next: str | None = Field(description="Cursor of the next page, null on the last.")


class NameCount(BaseModel):
    """A name and the number of its tracks."""

    name: str = Field(examples=["Bach"])
    count: int = Field(examples=[413])


class ComposerList(BaseModel):
    """Composers by the number of their tracks."""

    composers: list[NameCount]
    total: int = Field(description="Composers in the catalogue.")


class TagList(BaseModel):
    """Tags by the number of their tracks."""

    tags: list[NameCount]
    total: int = Field(description="Tags in the catalogue.")


class IncipitsQuery(_Query):
    """Parameters of incipits."""

    track_id: list[Text] = Field(
        min_length=1,
        max_length=MAX_INCIPITS,
        description="A track; repeat it for several.",
        examples=[["bach/bwv66.6"]],
    )


class IncipitBody(BaseModel):
    """The first notes of a work."""

    track_id: str
    status: Literal["ready", "pending", "none"] = Field(
        description="`pending`: it is being derived, this one before others; ask again in a moment."
    )
    parts: list[list[int]] | None = Field(
        description="For each part its notes as a flat list: onset and length in milliseconds, MIDI pitch."
    )
    detail: str | None = Field(description="Why there is none.")


class Incipits(BaseModel):
    """Incipits in the order they were asked for."""

    incipits: list[IncipitBody]
    missing: str | None = Field(description="What is missing, where nothing is derived here.")


_FIELD_PATTERN = rf"^({'|'.join(sorted({*METADATA_FIELDS} - {'extra'}))}|extra\.[^\u0000]+)$"


class MapQuery(SpaceQuery):
    """Parameters of a page of the map."""

    after: int = Field(
        default=0, ge=0, le=2**63 - 1, description="`next` of the page before; 0 for the first."
    )
    limit: int = Field(default=20_000, ge=1, le=MAX_POINTS, description="Points on a page, at most.")
    field: Text | None = Field(
        default=None,
        description="A metadata field whose value each point brings, or `extra.` and a key.",
        examples=["composer"],
        json_schema_extra={"pattern": _FIELD_PATTERN},
    )


class MapPage(BaseModel):
    """Points as columns of equal length."""

    ids: list[str]
    x: list[float]
    y: list[float]
    values: list[int] = Field(description="Of each point, the place in `names` of its field's value.")
    names: list[str | None] = Field(description="The values there are on this page; null is none.")
    space: str = Field(description="The space of the generation whose map it is.")
    generation: int = Field(description="Where it is another one than before, begin again with `after` 0.")
    next: int = Field(description="`after` of the page that follows, also of what will have changed later.")
    more: bool = Field(description="Whether there is more already.")


class ServingSpace(BaseModel):
    """A space that can be read."""

    space: str = Field(examples=[DEFAULT_SPACE])
    generation: int = Field(description="The generation that serves it.")


class SpaceList(BaseModel):
    """The spaces that can be read, and the one that is read if none is named."""

    spaces: list[ServingSpace]
    default: str


class StrategyAlias(BaseModel):
    """Another name of a strategy, or of one of its modes."""

    name: str = Field(examples=["complementary"])
    mode: str | None = Field(default=None, examples=["cluster"])


class StrategyMode(BaseModel):
    """One way of a strategy to rank."""

    name: str = Field(examples=["mmr"])
    description: str
    formula: str
    source: str = Field(description="Where the formula comes from.")


class StrategyParameter(BaseModel):
    """A setting of a strategy: `parameters.<name>` in a URL."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["lambda"])


class StrategyInfo(BaseModel):
    """A strategy that `/recommend` takes."""

    name: str = Field(examples=["diverse"])
    description: str
    formula: str
    source: str = Field(description="Where the formula comes from.")
    aliases: list[StrategyAlias]
    default_mode: str | None
    modes: list[StrategyMode]
    parameters: list[StrategyParameter]


class StrategyList(BaseModel):
    """All strategies, and the one that is used if none is named."""

    strategies: list[StrategyInfo]
    default: str


class _ComputedHead(BaseModel):
    """The head of an answer of the workers."""

    reference_track: str | None
    reference_metadata: TrackMetadata | None
    strategy: str
    mode: str | None = None
    weights: dict[str, float] | None = None
    source: SourcePosition | None = None
    generated_at: AwareDatetime
    space: str = "default"
    generation: int = 1
    cached: bool
    stale: bool
    behind_seconds: float = 0.0
    computation_time_ms: float


class PastRecommendation(Recommendation):
    """A track of a list as it was, described as it is now."""

    track_id: str | None = Field(  # type: ignore[assignment]  # only here a track may be unknown
        description="null: the track has been deleted since, and its name is gone."
    )


class PastRecommendationBody(RecommendationBody):
    """A stored list as it was."""

    recommendations: list[PastRecommendation] = Field(max_length=50)  # type: ignore[assignment]  # likewise
    version: int = Field(description="Of the list: greater than that of each list of the track before it.")
    replaced_at: AwareDatetime | None = Field(
        description="When another list followed, or the track was deleted; null: the list stands."
    )


class ExplanationResponse(_ComputedHead):
    """The rank of a candidate, and why."""

    placement: PlacementBody


class ComparisonResponse(_ComputedHead):
    """The strategies' lists side by side."""

    comparison: Comparison


class LivenessReport(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str


class HealthCheck(BaseModel):
    """The result of one check, with its figures."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "degraded", "down", "unknown"]
    detail: str


class HealthReport(BaseModel):
    """What works. `down`: reads cannot be answered. `degraded`: they can, but something is wrong."""

    status: Literal["ok", "degraded", "down"]
    version: str
    checks: dict[str, HealthCheck]


class FieldError(BaseModel):
    """What is wrong with one parameter."""

    field: str
    message: str


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:mess-ai:problem:track-not-found"])
    title: str = Field(examples=["Unknown track"])
    status: int = Field(examples=[404])
    detail: str
    instance: str = Field(description="The path that was asked for.", examples=["/recommend/nothing"])
    errors: list[FieldError] = Field(default=[], description="The parameters at fault, for status 422.")


class BatchResponse(BaseModel):
    """Answers in the order of the requests; one with a `status` of 400 or above is a problem document."""

    results: list[RecommendationBody | ProblemDocument] = Field(max_length=MAX_BATCH)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the problem documents with these statuses."""
    said = {
        400: "What came is no HTTP, or a key in a URL",
        401: "A key is missing or not valid",
        403: "The key is not for this",
        408: "The request was not complete in time",
        414: "The URL is too long",
        429: "Over the rate of the key or the address; see `Retry-After`",
        431: "The headers are too long or too many",
        500: "A defect of ours",
        404: "No such track, or no such space",
        410: "The stored list of then is not kept",
        406: "In none of the forms that `Accept` names",
        413: "The request's body is too large",
        422: "A parameter cannot be used",
        503: "The store, the broker or the workers cannot be reached; see `Retry-After`",
        504: "The workers did not reply in time; see `Retry-After`",
    }
    return {
        status: {
            "description": said[status],
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
            },
        }
        for status in statuses
    }

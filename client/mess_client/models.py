"""What the API answers. Members that a newer API adds are kept, as attributes, and break nothing."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _AnswerModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Metadata(_AnswerModel):
    """What the catalogue says of a track; None or empty where it says nothing."""

    title: str | None = None
    composer: str | None = None
    composer_full: str | None = None
    opus: str | None = None
    movement: str | None = None
    movement_name: str | None = None
    era: str | None = None
    form: str | None = None
    key_signature: str | None = None
    tempo_marking: str | None = None
    performer_id: str | None = None
    performer_name: str | None = None
    instrument: str | None = None
    ensemble: str | None = None
    recording_date: str | None = None
    year_composed: int | None = None
    duration_seconds: float | None = None
    dataset_source: str | None = None
    dataset_version: str | None = None
    tags: list[str] = []
    difficulty_level: str | None = None
    popular_rank: float | None = None
    artist: str | None = None
    artists: list[str] = []
    album: str | None = None
    musicbrainz_recording_id: str | None = None
    musicbrainz_release_id: str | None = None
    musicbrainz_artist_ids: list[str] = []
    isrc: str | None = None
    extra: dict[str, Any] = {}


class EventPosition(_AnswerModel):
    """An event of the ingest topic, by its coordinates."""

    topic: str
    partition: int
    offset: int
    event_time: datetime | None = None


class RecommendedTrack(_AnswerModel):
    """One recommended track: why, how well, and what is known of it."""

    track_id: str
    score: float
    similarity_score: float
    aspects: dict[str, float | None] = {}
    rank: int
    strategy_used: str
    explanation: str
    components: dict[str, float] = {}
    seed: str | None = None
    contributions: dict[str, float] = {}
    relaxed: list[str] = []
    title: str | None = None
    composer: str | None = None
    composer_full: str | None = None
    era: str | None = None
    form: str | None = None
    key_signature: str | None = None
    filename: str | None = None
    tags: list[str] = []
    cached: bool = False
    metadata: Metadata = Metadata()


class CandidateStage(_AnswerModel):
    """How many candidates were left after a stage."""

    stage: str
    held: int


class ChosenByAuto(_AnswerModel):
    """What the strategy `auto` chose, and why."""

    strategy: str
    mode: str | None = None
    reason: str


class _ComputedAnswer(_AnswerModel):
    reference_track: str | None = None
    reference_metadata: Metadata | None = None
    strategy: str
    mode: str | None = None
    weights: dict[str, float] | None = None
    source: EventPosition | None = None
    generated_at: datetime
    space: str = "default"
    generation: int = 1
    cached: bool
    stale: bool
    behind_seconds: float = 0.0
    computation_time_ms: float


class Recommendations(_ComputedAnswer):
    """Recommendations, the best first, and where they come from."""

    chosen: ChosenByAuto | None = None
    provisional: bool = False
    relaxed: list[str] = []
    stages: list[CandidateStage] = []
    notes: list[str] = []
    recommendations: list[RecommendedTrack]

    @property
    def track_ids(self) -> list[str]:
        """The recommended tracks' ids, the best first."""
        return [each.track_id for each in self.recommendations]


class PastTrack(RecommendedTrack):
    """A track of a list as it was, described as it is now; without an id if it has been deleted since."""

    track_id: str | None  # type: ignore[assignment]  # only here a track may be unknown


class PastRecommendations(_ComputedAnswer):
    """A track's stored list as it was."""

    chosen: ChosenByAuto | None = None
    provisional: bool = False
    relaxed: list[str] = []
    stages: list[CandidateStage] = []
    notes: list[str] = []
    recommendations: list[PastTrack]
    version: int
    replaced_at: datetime | None


class Placement(_AnswerModel):
    """Where a candidate stands among the recommendations, or what kept it out."""

    candidate: str
    stage: str
    listed: bool
    rank: int | None = None
    detail: str
    similarity_score: float
    aspects: dict[str, float | None] = {}
    recommendation: RecommendedTrack | None = None
    candidates: int


class Explanation(_ComputedAnswer):
    """Why a track is recommended, or why not."""

    placement: Placement


class StrategyAnswer(_AnswerModel):
    """One strategy's list beside the others', and what it is worth."""

    strategy: str
    mode: str | None = None
    chosen: ChosenByAuto | None = None
    recommendations: list[RecommendedTrack]
    relaxed: list[str] = []
    stages: list[CandidateStage] = []
    notes: list[str] = []
    intra_list_diversity: float
    novelty: float | None = None
    mean_similarity: float
    coverage: float


class StrategyOverlap(_AnswerModel):
    """How far the lists of two strategies agree."""

    one: str
    other: str
    jaccard: float
    rank_biased_overlap: float


class StrategyComparison(_AnswerModel):
    """Every strategy's list for one track."""

    lists: list[StrategyAnswer]
    overlap: list[StrategyOverlap]
    coverage: float
    candidates: int


class ComparedStrategies(_ComputedAnswer):
    """Every strategy's list for one track, and where they come from."""

    comparison: StrategyComparison


class CatalogueTrack(_AnswerModel):
    """A track of the catalogue."""

    track_id: str
    title: str | None = None
    composer: str | None = None
    composer_full: str | None = None
    era: str | None = None
    form: str | None = None
    key_signature: str | None = None
    filename: str | None = None
    tags: list[str] = []
    metadata: Metadata = Metadata()


class ListState(_AnswerModel):
    """The state of a track's stored list."""

    version: int
    length: int
    generated_at: datetime


class CatalogueRecord(CatalogueTrack):
    """A track, the event that it came from, and the state of its list."""

    source: EventPosition
    created_at: datetime
    updated_at: datetime
    neighbour_list: ListState | None = None


class CataloguePage(_AnswerModel):
    """One page of the catalogue; `next` is the cursor of the one behind it."""

    tracks: list[CatalogueTrack]
    total: int
    total_exact: bool = True
    next: str | None = None


class CountedName(_AnswerModel):
    """A name, and how many tracks bear it."""

    name: str
    count: int


class ComposersAnswer(_AnswerModel):
    """Composers, the most frequent first."""

    composers: list[CountedName]
    total: int


class TagsAnswer(_AnswerModel):
    """Tags, the most frequent first."""

    tags: list[CountedName]
    total: int


class MapPoints(_AnswerModel):
    """Points of the map as columns of equal length; each generation has a map of its own."""

    ids: list[str]
    x: list[float]
    y: list[float]
    values: list[int] = []
    names: list[str | None] = []
    space: str = "default"
    generation: int = 1
    next: int
    more: bool


class StrategyOffer(_AnswerModel):
    """A strategy, as the API describes it; its aliases, modes and parameters are plain objects."""

    name: str
    description: str
    formula: str
    source: str
    aliases: list[dict[str, Any]] = []
    default_mode: str | None = None
    modes: list[dict[str, Any]] = []
    parameters: list[dict[str, Any]] = []


class StrategyOffers(_AnswerModel):
    """All strategies, and the one that is used where none is named."""

    strategies: list[StrategyOffer]
    default: str


class ReadableSpace(_AnswerModel):
    """A space that can be read."""

    space: str
    generation: int


class ServingSpaces(_AnswerModel):
    """The spaces that can be read, and the one that is read if none is named."""

    spaces: list[ReadableSpace]
    default: str


class HealthFinding(_AnswerModel):
    """One thing that was looked at; figures stand beside, as attributes."""

    status: str
    detail: str


class Health(_AnswerModel):
    """What works. `down`: reads cannot be answered. `degraded`: they can, but something is wrong."""

    status: Literal["ok", "degraded", "down"]
    version: str
    checks: dict[str, HealthFinding] = {}


class ScoredNeighbour(_AnswerModel):
    """A neighbour, and its cosine similarity."""

    track_id: str
    score: float


class FeedOffset(_AnswerModel):
    """A place in the change feed."""

    partition: int
    offset: int


class Change(_AnswerModel):
    """A list that has changed.

    `reason` is `first-list`, `changed`, `withdrawn` (the track is gone), `promoted` (another generation serves) or
    `told-again` (after a worker's restart: what came and went is not known, and both are None). `recommendations` is the
    list, in the changes of one track alone. `space` and `generation` say whose list it is, None where the track is gone.
    """

    track_id: str
    reason: str
    offset: FeedOffset
    added: list[str] | None = None
    removed: list[str] | None = None
    version: int | None = None
    generated_at: datetime | None = None
    source: EventPosition | None = None
    space: str | None = None
    generation: int | None = None
    recommendations: list[ScoredNeighbour] | None = None


class ProblemField(_AnswerModel):
    """What is wrong with one parameter."""

    field: str
    message: str


class ProblemDetail(_AnswerModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = ""
    instance: str = ""
    errors: list[ProblemField] = []

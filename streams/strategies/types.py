"""The input and output of strategies: plain arrays and frozen values."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from streams.strategies.errors import InvalidQuery

if TYPE_CHECKING:
    from streams.strategies.aspects import Layout

Keys = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Column = npt.NDArray[np.object_]
Settings = Mapping[str, Any]

MAX_TOP_K: Final = 50


class CandidateColumns(Mapping[str, Column]):
    """Metadata of n candidates by field. A column is built at its first use, as most questions read few of them.

    Args:
        rows: One for each candidate; `extra.x` reads key x of the row's `extra`.
        fields: The fields that there are.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], fields: Iterable[str]) -> None:
        self._rows = rows
        self._made: dict[str, Column | None] = dict.fromkeys(fields)

    def __getitem__(self, name: str) -> Column:
        column = self._made[name]
        if column is None:
            inner = name.removeprefix("extra.")
            rows = self._rows if inner == name else [row.get("extra") or {} for row in self._rows]
            values = [row.get(inner) for row in rows]
            column = self._made[name] = np.fromiter(values, dtype=object, count=len(rows))
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    @property
    def count(self) -> int:
        """How many candidates: n."""
        return len(self._rows)

    def value(self, name: str, index: int) -> Any:
        """One candidate's value of a field, None if unknown; its column is not built for that."""
        if name not in self._made:
            return None
        row = self._rows[index]
        if not name.startswith("extra."):
            return row.get(name)
        return (row.get("extra") or {}).get(name.removeprefix("extra."))

    def listed(self, name: str) -> list[Any] | None:
        """All values of a field, None where unknown, as a list; None if there is no such field."""
        if name not in self._made:
            return None
        if self._made[name] is None and not name.startswith("extra."):
            return [row.get(name) for row in self._rows]
        return list(self[name])

    def take(self, indices: Indices) -> "CandidateColumns":
        """The candidates at `indices`, in that order."""
        rows = self._rows
        taken = CandidateColumns([rows[index] for index in indices.tolist()], self._made)
        for name, column in self._made.items():
            if column is not None:
                taken._made[name] = column[indices]
        return taken


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Tracks that may be recommended; n of them, in any order.

    Attributes:
        keys: int64 (n,), the tracks' keys.
        labels: int64 (n,), in the order of the track ids: they break ties.
        similarity: float32 (n,), cosine to the query.
        vectors: float32 (n, d), unit length; None if the strategy needs none.
        metadata: Field to a column of n values, None where unknown; `CandidateColumns` builds them from rows.
        percentile: float64 (n,), share of the catalogue that is less popular, 0 to 1; None if unknown.
        probability: float64 (n,), the track's share of all listening, above 0; None if unknown.
        heard: bool (n,), whether the track has interactions; None if unknown.
        list_share: float64 (n,), share of the catalogue's lists that hold the track; None if not counted.
        density: float64 (n,), mean cosine of the track to the first few of its own list, which is high for hubs;
            None if unknown.

    Raises:
        ValueError: the arrays do not fit each other, or hold something that is not finite.
    """

    keys: Keys
    labels: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    vectors: Vectors | None = None
    metadata: Mapping[str, Column] = field(default_factory=dict)
    percentile: Floats | None = None
    probability: Floats | None = None
    heard: Mask | None = None
    list_share: Floats | None = None
    density: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.keys)
        flat = {name: getattr(self, name) for name in (*_PER_TRACK, "labels", "similarity")}
        listed = self.metadata if not isinstance(self.metadata, CandidateColumns) else {}
        if isinstance(self.metadata, CandidateColumns) and self.metadata.count != n:
            raise ValueError(f"metadata: {self.metadata.count} rows, but there are {n} keys")
        for name, array in {**flat, **listed}.items():
            if array is not None and np.shape(array) != (n,):
                raise ValueError(f"{name}: shape {np.shape(array)}, but there are {n} keys")
        if self.vectors is not None and (self.vectors.ndim != 2 or len(self.vectors) != n):
            raise ValueError(f"vectors: shape {self.vectors.shape}, but there are {n} keys")
        for name in ("similarity", *_PER_TRACK):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise ValueError(f"{name}: holds a value that is not finite")
        if (
            self.probability is not None
            and n
            and not 0 < self.probability.min() <= self.probability.max() <= 1
        ):
            raise ValueError("probability: must be above 0 and at most 1")

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: Indices, *, vectors: bool = True) -> "Candidates":
        """The candidates at `indices`, in that order, with their vectors unless `vectors` is false."""
        per_track = {
            name: None if (array := getattr(self, name)) is None else array[indices] for name in _PER_TRACK
        }
        return Candidates(
            keys=self.keys[indices],
            labels=self.labels[indices],
            similarity=self.similarity[indices],
            vectors=self.vectors[indices] if vectors and self.vectors is not None else None,
            metadata=self.metadata.take(indices)
            if isinstance(self.metadata, CandidateColumns)
            else {name: column[indices] for name, column in self.metadata.items()},
            **per_track,
        )

    def listed(self, name: str) -> list[Any] | None:
        """All candidates' values of a metadata field as a list; None where nothing is known of the field."""
        if isinstance(self.metadata, CandidateColumns):
            return self.metadata.listed(name)
        column = self.metadata.get(name)
        return None if column is None else column.tolist()

    def value(self, name: str, index: int) -> Any:
        """One candidate's value of a metadata field, None where unknown."""
        if isinstance(self.metadata, CandidateColumns):
            return self.metadata.value(name, index)
        column = self.metadata.get(name)
        return None if column is None else column[index]


_PER_TRACK: Final = ("percentile", "probability", "heard", "list_share", "density")


@dataclass(frozen=True, eq=False, slots=True)
class Seed:
    """A seed or a negative of a query.

    Attributes:
        key: The track's key.
        weight: Its relative weight, above 0.
        vector: float32 (d,), unit length; needed if several are combined.
        metadata: Its metadata, to find shared facts.
    """

    key: int
    weight: float = 1.0
    vector: Vector | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one metadata field; `filters.parse_filters` makes them.

    Attributes:
        field: The field, or `extra.<key>`.
        kind: `any`: one of `values`; `all`: every one of `values` (tags); `not`: none of `values`;
            `range`: from `minimum` to `maximum`, both included, None open.
        values: Normalised text or numbers.
        minimum: A number, or a date as text.
        maximum: A number, or a date as text.
    """

    field: str
    kind: Literal["any", "all", "not", "range"]
    values: frozenset[str | float] = frozenset()
    minimum: str | float | None = None
    maximum: str | float | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """How many tracks of one composer, artist or album a list may hold; None: any number.

    `list_share` keeps hubs out: tracks that more than this share of all lists hold already. `anonymous` says whether
    "Anonymous" and other words for no composer count as one composer: by default no cap holds for them.
    """

    composer: int | None = None
    artist: int | None = None
    album: int | None = None
    list_share: float | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        for name in ("composer", "artist", "album"):
            cap = getattr(self, name)
            if cap is not None and cap < 1:
                raise InvalidQuery(f"caps.{name}", "must be at least 1")
        if self.list_share is not None and not 0 <= self.list_share <= 1:
            raise InvalidQuery("caps.list_share", "must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Rules for near-duplicates, of which a list holds only one.

    Attributes:
        same_work: Skip other recordings of the same work, by composer, opus or title, and movement.
        cosine: Skip tracks of at least this cosine to a listed track; None: do not compare vectors.
        of_seeds: Skip near-duplicates of the seeds too.
    """

    same_work: bool = True
    cosine: float | None = 0.995
    of_seeds: bool = True

    def __post_init__(self) -> None:
        if self.cosine is not None and not 0 < self.cosine <= 1:
            raise InvalidQuery("near_duplicates.cosine", "must be above 0 and at most 1")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Query:
    """What is asked.

    Attributes:
        seeds: What to start from; empty for a raw embedding.
        negatives: What to keep away from; never recommended themselves.
        embedding: float32 (d,), a raw vector to start from.
        strategy: Name or alias, see `registry`.
        mode: Mode of the strategy; None for its default.
        parameters: Settings of the strategy by name; what is left out has its default.
        top_k: How many, 1 to 50.
        exclude: Keys never to answer with; never relaxed.
        filters: Conditions on metadata, all of which hold.
        caps: How many of one composer, artist, album.
        hub_correction: How much the similarity of a track that is near to everything is lowered, see `hubs`;
            0 not at all, 1 is CSLS.
        near_duplicates: None keeps them.
        at_least: Relax until the list holds so many; None means `top_k`, 0 never relaxes.
        moment: Now, seconds since the epoch; an argument so that the same question has the same answer.
        window: Seconds for which `random` keeps its answer.
        user_context: What is known of the listener, for `auto`.
        weights: How much each aspect counts, as `aspects.checked_weights` returns them; None: as in the catalogue's lists.
        layout: What the vectors are made up of; None if that is not known.
    """

    seeds: tuple[Seed, ...] = ()
    negatives: tuple[Seed, ...] = ()
    embedding: Vector | None = None
    strategy: str = "similarity"
    mode: str | None = None
    parameters: Settings = field(default_factory=dict)
    top_k: int = 10
    exclude: frozenset[int] = frozenset()
    filters: tuple[Filter, ...] = ()
    caps: Caps = Caps()
    hub_correction: float = 0.0
    near_duplicates: NearDuplicates | None = None
    at_least: int | None = None
    moment: float = 0.0
    window: float = 3600.0
    user_context: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    layout: "Layout | None" = None

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise InvalidQuery("top_k", f"must be between 1 and {MAX_TOP_K}")
        if self.at_least is not None and not 0 <= self.at_least <= self.top_k:
            raise InvalidQuery("at_least", "must be between 0 and top_k")
        if not (math.isfinite(self.moment) and math.isfinite(self.window) and self.window > 0):
            raise InvalidQuery("window", "must be a number of seconds above 0")
        if not 0 <= self.hub_correction <= 1:
            raise InvalidQuery("hub_correction", "must be between 0 and 1")
        for seed in (*self.seeds, *self.negatives):
            if not (math.isfinite(seed.weight) and seed.weight > 0):
                raise InvalidQuery("weight", "must be above 0")

    def with_strategy(self, strategy: str, mode: str | None, parameters: Settings) -> "Query":
        """The same question to another strategy."""
        return replace(self, strategy=strategy, mode=mode, parameters=parameters)

    @property
    def wanted(self) -> int:
        """The length below which the list is too short."""
        return self.top_k if self.at_least is None else self.at_least


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """The strategy that made the list; `reason` where `auto` chose it."""

    strategy: str
    mode: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One recommended track.

    Attributes:
        index: Its place in what the list was chosen from.
        key: Who it is.
        rank: 1 is best.
        score: What the strategy ranked by.
        similarity: Cosine to what the query starts from.
        components: What the score is made of, by name; documented with each strategy.
        shared: (fact, value) pairs that it has in common with `seed`.
        seed: Index into `Query.seeds` of the seed that contributes most; None for a raw embedding.
        contributions: What each seed adds to the similarity, in the order of `Query.seeds`; empty for one seed.
        relaxed: The conditions that it does not meet, such as `filters.era`.
        explanation: All that in a sentence.
        aspects: By aspect, the cosine to the same part of what the query starts from; None where either lacks the part.
    """

    index: int
    key: int
    rank: int
    score: float
    similarity: float
    components: Mapping[str, float]
    shared: tuple[tuple[str, str], ...]
    seed: int | None
    contributions: tuple[float, ...]
    relaxed: tuple[str, ...]
    explanation: str
    aspects: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageCount:
    """How many candidates were left after a stage."""

    stage: str
    held: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A list, and how it came about.

    Attributes:
        choice: The strategy that made it.
        items: At most `top_k`; those that meet every condition first.
        stages: How many tracks each stage left, in order: `received`, `filters`, `exclude`, `near_duplicates` and `caps` before
            anything was relaxed, `relaxed <condition>` after each condition that was given up, and `top_k`, the list.
        relaxed: The conditions that some item does not meet, in the order of relaxation.
        notes: What the caller should know, such as that nothing is known of popularity, or why the list is short.
    """

    choice: StrategyChoice
    items: tuple[RecommendedItem, ...]
    stages: tuple[StageCount, ...]
    relaxed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def indices(self) -> list[int]:
        """Places, in what the list was chosen from, of what was listed, best first."""
        return [item.index for item in self.items]

    @property
    def keys(self) -> list[int]:
        """Keys of what was listed, best first."""
        return [item.key for item in self.items]


@dataclass(frozen=True, slots=True)
class CandidatePlacement:
    """Where a candidate stands, and why.

    Attributes:
        key: The candidate.
        stage: `listed`, or what kept it out: `candidates` (it is not among them), `seeds`, `exclude`,
            `filters`, `caps`, `near_duplicates`, `top_k` (it ranks below the list).
        rank: Its rank, where it has one: beyond `top_k` for stage `top_k`; None if not ranked that far.
        detail: Why, in a sentence.
        item: What the list says of it, if it is ranked.
    """

    key: int
    stage: str
    rank: int | None
    detail: str
    item: RecommendedItem | None = None

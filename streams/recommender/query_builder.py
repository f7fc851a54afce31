"""From a request to the strategies' own question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from store.candidates import KnownTrack
from streams.contracts import InvalidEvent, RecommendationQuery, Seed, track_key, unit_vector
from streams.contracts.dates import partial_date
from streams.recommender import problems
from streams.strategies import Caps, InvalidQuery, NearDuplicates, Query, filters, registry
from streams.strategies import Seed as StartingTrack
from streams.strategies.types import Vector


@dataclass(frozen=True, slots=True)
class Named:
    """The tracks that a request names, by the part of it that does."""

    seeds: tuple[Seed, ...]
    negatives: tuple[Seed, ...]
    candidate: str | None

    @staticmethod
    def of(request: RecommendationQuery) -> "Named":
        """The tracks that must exist for the request to mean something."""
        alone = [] if request.track_id is None else [Seed(track_id=request.track_id, weight=1.0)]
        return Named(tuple(request.seeds or alone), tuple(request.negatives), request.candidate)

    @property
    def keys(self) -> list[int]:
        """Their keys, each once."""
        names = [seed.track_id for seed in (*self.seeds, *self.negatives)]
        if self.candidate is not None:
            names.append(self.candidate)
        return list(dict.fromkeys(track_key(name) for name in names))

    def require(self, known: Mapping[int, KnownTrack], *, one: bool) -> None:
        """Make sure that all of them are there.

        Raises:
            ProblemError: 404.
        """
        parts = (
            ("track_id" if one else "seeds", [s.track_id for s in self.seeds]),
            ("negatives", [s.track_id for s in self.negatives]),
            ("candidate", [] if self.candidate is None else [self.candidate]),
        )
        for field, names in parts:
            unknown = [name for name in names if track_key(name) not in known]
            if unknown:
                raise problems.track_not_found(unknown, field)


def make_query(
    request: RecommendationQuery,
    known: Mapping[int, KnownTrack],
    *,
    now: float,
    window: float,
    dimension: int | None = None,
) -> Query:
    """The strategies' question, yet without vectors.

    Args:
        request: What was asked.
        known: The tracks that it names, by key.
        now: Seconds since the epoch, unless the listener says another time.
        window: Seconds for which `random` keeps its answer.
        dimension: What an embedding must have, if it is known.

    Raises:
        ProblemError: 422, with the field at fault.
    """
    named = Named.of(request)
    context = request.user_context
    try:
        query = Query(
            seeds=_starting(named.seeds, known),
            negatives=_starting(named.negatives, known),
            embedding=None if request.embedding is None else _embedding(request.embedding, dimension),
            strategy=request.strategy,
            mode=request.mode,
            parameters=_parameters(request),
            top_k=request.top_k,
            exclude=frozenset(track_key(name) for name in request.exclude),
            **_conditions(request),
            moment=now if context.time is None else context.time.timestamp(),
            window=window,
            user_context=context.model_dump(exclude_none=True),
        )
        registry.resolve(query.strategy, query.mode, query.parameters)
    except InvalidQuery as error:
        raise as_problem(error, request) from None
    return query


def _conditions(request: RecommendationQuery) -> dict[str, Any]:
    """What the list must meet, and how far that may be relaxed."""
    near = request.near_duplicates
    return {
        "filters": filters.parse(request.wanted_filters(), partial_date),
        "caps": Caps(**request.caps.model_dump()),
        "hub_correction": request.hub_correction,
        "near_duplicates": None if near is None else NearDuplicates(**near.model_dump()),
        "at_least": request.at_least,
    }


def as_problem(error: InvalidQuery, request: RecommendationQuery) -> problems.ProblemError:
    """What the strategies refuse, by the name that the request has for it."""
    field = f"parameters.{error.field}" if error.field in request.parameters else error.field
    return problems.invalid(field, error.reason)


def _parameters(request: RecommendationQuery) -> dict[str, bool | int | float]:
    given = dict(request.parameters)
    if request.canonical[0] == "random" and request.user_context.seed is not None:
        given.setdefault("seed", request.user_context.seed)
    return given


def _embedding(values: Sequence[float], dimension: int | None) -> Vector:
    try:
        return unit_vector(np.asarray(values, dtype=np.float64), dimension=dimension)
    except InvalidEvent as error:
        raise InvalidQuery("embedding", error.detail.removeprefix("embedding ")) from None


def _starting(seeds: tuple[Seed, ...], known: Mapping[int, KnownTrack]) -> tuple[StartingTrack, ...]:
    """Seeds as the strategies take them; the weights of one given twice add up."""
    weights: dict[int, float] = {}
    for seed in seeds:
        key = track_key(seed.track_id)
        weights[key] = weights.get(key, 0.0) + seed.weight
    return tuple(StartingTrack(key, weight, metadata=known[key].metadata) for key, weight in weights.items())


def with_vectors(query: Query, vectors: Mapping[int, Vector]) -> Query:
    """The question with the vectors of its seeds and negatives, by key, as far as they are given."""

    def found(tracks: tuple[StartingTrack, ...]) -> tuple[StartingTrack, ...]:
        return tuple(replace(track, vector=vectors.get(track.key)) for track in tracks)

    return replace(query, seeds=found(query.seeds), negatives=found(query.negatives))


def needs_vectors(query: Query) -> bool:
    """Whether the strategy needs the candidates' own vectors."""
    resolved = registry.resolve(query.strategy, query.mode, query.parameters)
    near = query.near_duplicates
    return resolved.mode.vectors or (near is not None and near.cosine is not None)

"""Builds the strategies' query from a request."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.contracts import InvalidEvent, RecommendationQuery, SeedOption, track_key
from streams.contracts.dates import partial_date
from streams.contracts.embeddings import read_embedding
from streams.recommender import problems
from streams.strategies import Caps, InvalidQuery, NearDuplicates, Query, filters, registry
from streams.strategies import Seed as StartingTrack
from streams.strategies.aspects import Layout
from streams.strategies.types import Vector


@dataclass(frozen=True, slots=True)
class NamedTracks:
    """The tracks that a request names, by the part of it that does."""

    seeds: tuple[SeedOption, ...]
    negatives: tuple[SeedOption, ...]
    candidate: str | None

    @staticmethod
    def of(request: RecommendationQuery) -> "NamedTracks":
        """The tracks that must exist for the request to mean something."""
        alone = [] if request.track_id is None else [SeedOption(track_id=request.track_id, weight=1.0)]
        return NamedTracks(tuple(request.seeds or alone), tuple(request.negatives), request.candidate)

    @property
    def keys(self) -> list[int]:
        """Their keys, each once."""
        names = [seed.track_id for seed in (*self.seeds, *self.negatives)]
        if self.candidate is not None:
            names.append(self.candidate)
        return list(dict.fromkeys(track_key(name) for name in names))

    def not_found(self, unknown: Collection[int], *, one: bool) -> problems.RequestProblemError:
        """404 for these keys, of which at least one is named."""
        parts = (
            ("track_id" if one else "seeds", [s.track_id for s in self.seeds]),
            ("negatives", [s.track_id for s in self.negatives]),
            ("candidate", [] if self.candidate is None else [self.candidate]),
        )
        missing = [
            (names, field)
            for field, given in parts
            if (names := [name for name in given if track_key(name) in unknown])
        ]
        return problems.unknown_track(*missing[0])


def make_query(
    request: RecommendationQuery,
    *,
    now: float,
    window: float,
    layout: Layout | None = None,
) -> Query:
    """The strategies' query, still without vectors and metadata of its tracks.

    Args:
        request: The request.
        now: Seconds since the epoch; the listener's own time takes precedence.
        window: Seconds for which `random` keeps its answer.
        layout: The catalogue's, if known.

    Raises:
        ProblemError: 422, with the field at fault.
    """
    named = NamedTracks.of(request)
    context = request.user_context
    try:
        query = Query(
            seeds=_starting(named.seeds),
            negatives=_starting(named.negatives),
            embedding=None if request.embedding is None else _embedding(request.embedding, layout),
            weights=request.weights,
            layout=layout,
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
        registry.resolve_strategy(query.strategy, query.mode, query.parameters)
    except InvalidQuery as error:
        raise as_problem(error, request) from None
    return query


def _conditions(request: RecommendationQuery) -> dict[str, Any]:
    """The conditions for the list, and how far they may be relaxed."""
    near = request.near_duplicates
    return {
        "filters": filters.parse_filters(request.wanted_filters(), partial_date),
        "caps": Caps(**request.caps.model_dump()),
        "hub_correction": request.hub_correction,
        "near_duplicates": None if near is None else NearDuplicates(**near.model_dump()),
        "at_least": request.at_least,
    }


def as_problem(error: InvalidQuery, request: RecommendationQuery) -> problems.RequestProblemError:
    """The problem for a refusal by the strategies, with the request's name for the field."""
    field = f"parameters.{error.field}" if error.field in request.parameters else error.field
    return problems.invalid_parameter(field, error.reason)


def _parameters(request: RecommendationQuery) -> dict[str, bool | int | float]:
    given = dict(request.parameters)
    strategy, mode = registry.find_mode(request.strategy, request.mode)
    takes_seed = any(parameter.name == "seed" for parameter in strategy.taken_by(mode.name))
    if takes_seed and request.user_context.seed is not None:
        given.setdefault("seed", request.user_context.seed)
    return given


def _embedding(given: Sequence[float] | Mapping[str, Sequence[float]], layout: Layout | None) -> Vector:
    def array(values: Sequence[float]) -> npt.NDArray[np.float64]:
        return np.asarray(values, dtype=np.float64)

    parts = (
        {name: array(part) for name, part in given.items()} if isinstance(given, Mapping) else array(given)
    )
    try:
        return read_embedding(parts, layout)[0]
    except InvalidEvent as error:
        raise InvalidQuery("embedding", error.detail.removeprefix("embedding").lstrip(" .")) from None


def _starting(seeds: tuple[SeedOption, ...]) -> tuple[StartingTrack, ...]:
    """Seeds for the strategies; the weights of a repeated seed add up."""
    weights: dict[int, float] = {}
    for seed in seeds:
        key = track_key(seed.track_id)
        weights[key] = weights.get(key, 0.0) + seed.weight
    return tuple(StartingTrack(key, weight) for key, weight in weights.items())


def is_stored_list(query: Query) -> bool:
    """Whether the answer begins with the stored list of the only seed."""
    resolved = registry.resolve_strategy(query.strategy, query.mode, query.parameters)
    return (
        resolved.strategy.name == registry.DEFAULT
        and len(query.seeds) == 1
        and not (
            query.weights or query.negatives or query.filters or query.near_duplicates or query.hub_correction
        )
        and query.embedding is None
    )

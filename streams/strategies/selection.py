"""Makes a list from candidates: filters, exclusions, the strategy's picks under caps, and relaxation if few are left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streams.strategies import explanations, facts, registry, seeds
from streams.strategies.gate import CAPPED_FIELDS, WORK
from streams.strategies.picking import PickedCandidate, PickingRun
from streams.strategies.source import CandidateSource, Source
from streams.strategies.types import (
    CandidatePlacement,
    Candidates,
    Query,
    RecommendedItem,
    Selection,
    Vectors,
)

# How far down `explain_candidate` ranks before it says "below", where each pick is compared with those before it.
DEEPEST = 1000


def fields_needed(query: Query) -> frozenset[str]:
    """The metadata fields that answering the query reads: what `Candidates.metadata` should hold."""
    needed = {*facts.FIELDS, *(condition.field for condition in query.filters)}
    needed |= {field for name, field in CAPPED_FIELDS.items() if getattr(query.caps, name) is not None}
    if query.near_duplicates is not None and query.near_duplicates.same_work:
        needed |= set(WORK)
    if registry.resolve_strategy(query.strategy, query.mode, query.parameters).strategy.name == registry.AUTO:
        needed |= set(CAPPED_FIELDS.values())
    return frozenset(needed)


def candidates_wanted(query: Query) -> int:
    """The number of most similar tracks that a list is chosen from if only seeds and exclusions keep tracks out.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
    """
    resolved = registry.resolve_strategy(query.strategy, query.mode, query.parameters)
    spare = len(query.exclude) + len(query.seeds) + len(query.negatives)
    return spare + max(query.top_k, registry.pool_size(resolved, query))


def select_list(source: Source | Candidates, query: Query) -> Selection:
    """The list that answers a query.

    Tracks are filtered, then the excluded and the seeds themselves are taken out. From what is left the strategy
    picks one at a time; a pick that nearly repeats a listed track or exceeds a cap is passed over. Only if that ends
    below `query.at_least`, with nothing left in the source that may be listed, conditions are given up one by one until the
    list is long enough: hub cap, caps by album, artist and
    composer, near-duplicates, then filters in the order of `filters.RELAXATION`. What meets every condition stays on
    top. Never given up: `exclude`, seeds and negatives, and `not` filters. A list shorter than `query.top_k` has a note
    that says why.

    The result does not depend on the order of the tracks. Ties are broken by label.

    Args:
        source: What to choose from; no track is in it twice.
        query: What is asked.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
        MissingData: the strategy needs vectors that are not there.
    """
    run = PickingRun(_source(source), query)
    run.fill(query.top_k)
    run.count()
    notes = [] if len(run.picks) >= query.top_k else _relaxed(run)
    return Selection(run.choice, _items(run, run.picks), run.stages(), run.relaxed(), (*run.notes, *notes))


def _source(given: Source | Candidates) -> Source:
    return CandidateSource(given) if isinstance(given, Candidates) else given


def _relaxed(run: PickingRun) -> list[str]:
    """Relax conditions as far as the query allows; if the list is still short, notes that say why."""
    query = run.query
    everything = run.relax(query.wanted)
    count = len(run.picks)
    if count >= query.top_k:
        return []
    left = f"only {count} candidate{' is' if count == 1 else 's are'} left"
    why = ", whatever is relaxed" if everything else f": at_least = {query.wanted} has no more relaxed"
    return [left + why]


def explain_candidate(given: Source | Candidates, query: Query, key: int) -> CandidatePlacement:
    """The rank of a track in the answer to a query, or what kept it out.

    `similarity` ranks every track. Other strategies choose from the most similar ones: for a track that is not among these,
    the answer is its position by similarity.

    Args:
        given: What the list is chosen from.
        query: What is asked.
        key: The track.

    Raises:
        InvalidQuery: as `select_list`.
        MissingData: as `select_list`.
    """
    source = _source(given)
    for item in select_list(source, query).items:
        if item.key == key:
            return CandidatePlacement(
                key, "listed", item.rank, f"Listed at rank {item.rank}: {item.explanation}", item
            )
    found = source.places_of([key])
    place = int(found[0]) if len(found) else None
    refused = _refused(source, query, key, place)
    if refused is not None:
        return refused
    run = PickingRun(source, query)
    if place is None:
        return CandidatePlacement(key, "candidates", None, "It is not one of the tracks that are chosen from")
    if run.resolved.strategy.name == registry.DEFAULT:
        run.fill(DEEPEST if query.near_duplicates is not None else registry.MOST, until=place)
        return _ranked(run, place, key)
    run.fill(query.top_k)
    if not run.gate.closed[place] and place not in run.pool:
        return _beyond(run, place, key)
    run.pick_on(DEEPEST if run.resolved.mode.depends_on("vectors") else registry.MOST, until=place)
    return _ranked(run, place, key)


def _beyond(run: PickingRun, place: int, key: int) -> CandidatePlacement:
    """The placement of a track that nothing refuses and that is not among those that the strategy ranked."""
    count, strategy = len(run.pool), run.choice.strategy
    detail = f"Not among the {count:,} candidates that {strategy} chooses from"
    nearest = run.source.by_label(run.source.nearest(run.eligible, registry.MOST))
    at = np.flatnonzero(nearest == place)
    if len(at):
        similarity = run.source.candidates(nearest, vectors=False).similarity
        number = 1 + int(np.flatnonzero(np.argsort(-similarity, kind="stable") == at[0])[0])
        detail += f": it is number {number:,} of the most similar tracks"
    else:
        detail += f", nor among the {len(nearest):,} most similar tracks"
    return CandidatePlacement(key, "candidates", None, detail)


def _refused(source: Source, query: Query, key: int, place: int | None) -> CandidatePlacement | None:
    """What keeps a track out in any case: seeds, exclusions, filters."""
    for tracks, name in ((query.seeds, "seed"), (query.negatives, "negative")):
        if any(track.key == key for track in tracks):
            return CandidatePlacement(key, "seeds", None, f"It is a {name} of the query itself")
    if key in query.exclude:
        return CandidatePlacement(key, "exclude", None, "The query excludes it")
    unmet = [] if place is None else [c for c in query.filters if not source.meeting(c)[place]]
    if place is None or not unmet:
        return None
    said = " and ".join(
        explanations.unmet_phrase(condition, source.value(condition.field, place)) for condition in unmet
    )
    return CandidatePlacement(key, "filters", None, f"It does not meet the filters: {said}")


def _ranked(run: PickingRun, place: int, key: int) -> CandidatePlacement:
    ranks = {pick.place: rank for rank, pick in enumerate(run.picks, start=1)}
    if place in ranks:
        (item,) = _items(run, [run.picks[ranks[place] - 1]], ranks[place])
        detail = f"Ranks {item.rank:,}, below the first {run.query.top_k}: {item.explanation}"
        return CandidatePlacement(key, "top_k", item.rank, detail, item)
    closed = run.gate.cause(place)
    if closed is None:
        return CandidatePlacement(key, "top_k", None, f"Ranks below the first {len(run.picks):,}")
    condition, cause = closed
    by_rank = f" at rank {ranks[cause]:,}" if cause in ranks else ""
    return CandidatePlacement(
        key, condition.split(".")[0], None, explanations.refusal_reason(condition, by_rank)
    )


class _ItemFacts(NamedTuple):
    """What an item says of its track beside its pick; `seed` is the index of the one that contributes most."""

    key: int
    similarity: float
    seed: int
    contributions: tuple[float, ...]
    shared: tuple[tuple[str, str], ...]
    aspects: Mapping[str, float | None]


def _items(run: PickingRun, picks: Sequence[PickedCandidate], first: int = 1) -> tuple[RecommendedItem, ...]:
    query = run.query
    places = np.array([pick.place for pick in picks], dtype=np.intp)
    several, parted = len(query.seeds) > 1, query.layout is not None and bool(query.layout.aspects)
    tracks = run.source.candidates(places, vectors=several or parted)
    added = seeds.seed_contributions(query, tracks) if several and picks else None
    parts = [()] * len(picks) if added is None else [tuple(row) for row in added.tolist()]
    most = np.zeros(len(picks), dtype=np.intp) if added is None else added.argmax(axis=1)
    common = facts.shared_facts([seed.metadata for seed in query.seeds], tracks, most)
    aspects = (aspects_of(query, tracks.vectors) if picks else []) or [{}] * len(picks)
    found = map(
        _ItemFacts, tracks.keys.tolist(), tracks.similarity.tolist(), most.tolist(), parts, common, aspects
    )
    return tuple(
        _item(run, pick, rank, own) for rank, (pick, own) in enumerate(zip(picks, found, strict=True), first)
    )


def aspects_of(query: Query, vectors: Vectors | None) -> list[dict[str, float | None]]:
    """For each of n tracks its similarity to what the query starts from, by aspect; empty without aspects.

    Args:
        query: What is asked, with the vectors of its tracks.
        vectors: float32 (n, d); None if the catalogue has no aspects.
    """
    layout = query.layout
    if layout is None or not layout.aspects or vectors is None:
        return []
    cosines = layout.cosines(seeds.combine_seeds(replace(query, weights=None)).vector, vectors)
    return layout.described(cosines)


def _item(
    run: PickingRun,
    pick: PickedCandidate,
    rank: int,
    own: _ItemFacts,
) -> RecommendedItem:
    said = (
        explanations.most_of(run.query, own.seed, own.contributions[own.seed]) if own.contributions else None
    )
    return RecommendedItem(
        index=pick.place,
        key=own.key,
        rank=rank,
        score=pick.score,
        similarity=own.similarity,
        components=pick.components,
        shared=own.shared,
        seed=own.seed if run.query.seeds else None,
        contributions=own.contributions,
        relaxed=pick.relaxed,
        explanation=explanations.explain_item(
            run.resolved.mode,
            own.similarity,
            pick.components,
            aspects=own.aspects,
            weights=run.query.weights,
            contribution=said,
            shared=own.shared,
            relaxed=pick.relaxed,
        ),
        aspects=own.aspects,
    )

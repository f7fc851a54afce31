"""From candidates to a list: filters, exclusions, the strategy's picks under caps, and what happens if few are left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streams.strategies import explanations, facts, filters, registry, seeds
from streams.strategies.gate import CAPPED_FIELDS, WORK
from streams.strategies.picking import Pick, Run
from streams.strategies.types import Candidates, Caps, Columns, Item, Placement, Query, Selection

# More candidates than this are never asked for.
MOST = 5000
# How far down `explain` ranks before it says "below", where each pick is compared with those before it.
DEEPEST = 1000


def fields_needed(query: Query) -> frozenset[str]:
    """The metadata fields that answering the query reads: what `Candidates.metadata` should hold."""
    needed = {*facts.FIELDS, *(condition.field for condition in query.filters)}
    needed |= {field for name, field in CAPPED_FIELDS.items() if getattr(query.caps, name) is not None}
    if query.near_duplicates is not None and query.near_duplicates.same_work:
        needed |= set(WORK)
    if registry.resolve(query.strategy, query.mode, query.parameters).strategy.name == registry.AUTO:
        needed |= set(CAPPED_FIELDS.values())
    return frozenset(needed)


def candidates_wanted(query: Query) -> int:
    """How many of the most similar tracks to bring at first; the reranking strategies want more than they answer.

    `diverse/contrast` looks for the far edge: of what is brought, so the more the better.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
    """
    resolved = registry.resolve(query.strategy, query.mode, query.parameters)
    spare = query.top_k + len(query.exclude) + len(query.seeds) + len(query.negatives)
    plain = not (query.filters or query.near_duplicates or query.hub_correction)
    if resolved.strategy.name == registry.DEFAULT and plain:
        return spare
    return max(spare, registry.pool_size(resolved, MOST, query.top_k))


def select(candidates: Candidates, query: Query, *, more: bool = False) -> Selection:
    """The list that answers a query.

    Candidates are filtered, then the excluded and the seeds themselves are taken out. From what is left the strategy
    picks one at a time; a pick that nearly repeats a listed track or exceeds a cap is passed over. If that ends
    below `query.at_least`, then either the caller has more candidates (`more`), and `wants_more` says to bring them;
    or conditions are given up one by one until the list is long enough: hub cap, caps by album, artist and
    composer, near-duplicates, then filters in the order of `filters.RELAXATION`. What meets every condition stays on
    top. Never given up: `exclude`, seeds and negatives, and `not` filters. A list shorter than `query.top_k` has a note
    that says why.

    The result does not depend on the order of the candidates. Ties are broken by label.

    Raises:
        InvalidQuery: the strategy, its mode or its parameters.
        MissingData: the strategy needs vectors that the candidates do not have.
    """
    run = Run(candidates, query)
    run.fill(query.top_k)
    run.count()
    wants_more = more and len(run.picks) < query.wanted
    notes = [] if wants_more or len(run.picks) >= query.top_k else _relaxed(run)
    return Selection(
        run.choice,
        _items(run, run.picks),
        run.stages(),
        run.relaxed(),
        (*run.notes, *notes),
        wants_more=wants_more,
    )


def _relaxed(run: Run) -> list[str]:
    """Give up conditions as far as the query wants it; if the list is still short, why."""
    query = run.query
    everything = run.relax(query.wanted)
    count = len(run.picks)
    if count >= query.top_k:
        return []
    left = f"only {count} candidate{' is' if count == 1 else 's are'} left"
    why = ", whatever is relaxed" if everything else f": at_least = {query.wanted} has no more relaxed"
    return [left + why]


def select_widening(
    fetch: Callable[[int], Candidates], query: Query, sizes: Sequence[int] = (200, 1000, 5000)
) -> tuple[Candidates, Selection]:
    """As `select`, asking `fetch` for more candidates before anything is relaxed.

    Args:
        fetch: Called with a size, answers with up to so many candidates, the most similar; fewer mean there are no
            more. Called at least once, with growing sizes.
        query: What is asked.
        sizes: How many to ask for, one after the other; not empty.

    Returns:
        The candidates of the last call, which the items' indices refer to, and the list.
    """
    for size in sizes[:-1]:
        candidates = fetch(size)
        selection = select(candidates, query, more=len(candidates) >= size)
        if not selection.wants_more:
            return candidates, selection
    candidates = fetch(sizes[-1])
    return candidates, select(candidates, query)


def explain(
    candidates: Candidates, query: Query, key: int, metadata: Mapping[str, Any] | None = None
) -> Placement:
    """Where a candidate stands in the answer to a query, or what kept it out.

    Args:
        candidates: What the list is chosen from.
        query: What is asked.
        key: The candidate, perhaps not one of those.
        metadata: Its row; without it, filters are not held against a candidate that is not one of those.

    Raises:
        InvalidQuery: as `select`.
        MissingData: as `select`.
    """
    selection = select(candidates, query)
    for item in selection.items:
        if item.key == key:
            return Placement(
                key, "listed", item.rank, f"Listed at rank {item.rank}: {item.explanation}", item
            )
    found = np.flatnonzero(candidates.keys == key)
    if not len(found):
        detail = f"Not among the {len(candidates)} candidates, the most similar tracks"
        return _refused(query, key, _alone(query, key, metadata)) or Placement(
            key, "candidates", None, detail
        )
    # Of a track given twice, the more similar counts, as in `select`.
    index = found[[candidates.similarity[found].argmax()]]
    refused = _refused(query, key, candidates.take(index))
    return refused or _ranked(Run(candidates, query), int(index[0]), key)


def explain_beyond(wider: Candidates, query: Query, key: int, count: int) -> Placement:
    """Where a candidate stands that nothing refuses, and that was not among those that the list was chosen from.

    `similarity` ranks it as the list would go on. The others choose from the most similar alone: of these it is told
    which it would be.

    Args:
        wider: More of the most similar tracks.
        query: What is asked.
        key: The candidate, perhaps not one of those either.
        count: How many candidates the list was chosen from.

    Raises:
        InvalidQuery: as `select`.
        MissingData: as `select`.
    """
    found = np.flatnonzero(wider.keys == key)
    strategy = registry.resolve(query.strategy, query.mode, query.parameters).strategy.name
    if strategy == registry.DEFAULT:
        if len(found):
            return _ranked(Run(wider, query), int(found[0]), key)
        return Placement(key, "top_k", None, f"Ranks below the first {len(wider):,}")
    detail = f"Not among the {count:,} candidates that {strategy} chooses from"
    if len(found):
        plain = replace(query, caps=Caps(), near_duplicates=None, hub_correction=0.0)
        run = Run(wider, plain.with_strategy(registry.DEFAULT, None, {}))
        run.fill(MOST, until=int(found[0]))
        detail += f": it is number {len(run.picks):,} of the most similar tracks"
    else:
        detail += f", nor among the {len(wider):,} most similar tracks"
    return Placement(key, "candidates", None, detail)


def _alone(query: Query, key: int, metadata: Mapping[str, Any] | None) -> Candidates | None:
    if metadata is None:
        return None
    keys, row = np.array([key]), Columns([metadata], {condition.field for condition in query.filters})
    return Candidates(keys, keys, np.zeros(1, dtype=np.float32), metadata=row)


def _refused(query: Query, key: int, alone: Candidates | None) -> Placement | None:
    """What keeps a candidate out whatever else there is; `alone` is the candidate, None where nothing is known of it."""
    for tracks, name in ((query.seeds, "seed"), (query.negatives, "negative")):
        if any(track.key == key for track in tracks):
            return Placement(key, "seeds", None, f"It is a {name} of the query itself")
    if key in query.exclude:
        return Placement(key, "exclude", None, "The query excludes it")
    unmet = [c for c in query.filters if not filters.mask(c, alone)[0]] if alone is not None else []
    if alone is None or not unmet:
        return None
    said = " and ".join(explanations.unmet(condition, alone, 0) for condition in unmet)
    return Placement(key, "filters", None, f"It does not meet the filters: {said}")


def _ranked(run: Run, index: int, key: int) -> Placement:
    near = run.query.near_duplicates
    run.fill(DEEPEST if run.resolved.mode.vectors or near is not None else MOST, until=index)
    ranks = {pick.index: rank for rank, pick in enumerate(run.picks, start=1)}
    if index in ranks:
        (item,) = _items(run, run.picks[-1:], ranks[index])
        detail = f"Ranks {item.rank:,}, below the first {run.query.top_k}: {item.explanation}"
        return Placement(key, "top_k", item.rank, detail, item)
    if index not in run.gate.cause:
        return Placement(key, "top_k", None, f"Ranks below the first {len(run.picks):,}")
    condition, cause = run.gate.cause[index]
    by_rank = f" at rank {ranks[cause]:,}" if cause in ranks else ""
    return Placement(key, condition.split(".")[0], None, explanations.refused(condition, by_rank))


def _items(run: Run, picks: Sequence[Pick], first: int = 1) -> tuple[Item, ...]:
    parts = _contributions(run, picks)
    told = [facts.told(seed.metadata) for seed in run.query.seeds]
    return tuple(_item(run, pick, rank, parts[rank - first], told) for rank, pick in enumerate(picks, first))


def _contributions(run: Run, picks: Sequence[Pick]) -> list[tuple[float, ...]]:
    """What each seed adds to each pick; empty where there is nothing to tell apart."""
    indices = np.array([pick.index for pick in picks], dtype=np.intp)
    added = seeds.contributions(run.query, run.candidates, indices) if picks else None
    return [()] * len(picks) if added is None else [tuple(row) for row in added.tolist()]


def _item(
    run: Run, pick: Pick, rank: int, parts: tuple[float, ...], told: Sequence[list[tuple[facts.Fact, str]]]
) -> Item:
    candidates, query = run.candidates, run.query
    most = None if not query.seeds else parts.index(max(parts)) if parts else 0
    common = facts.shared(told[most], candidates, pick.index) if most is not None else ()
    similarity = float(candidates.similarity[pick.index])
    said = explanations.most_of(query, most, parts[most]) if parts and most is not None else None
    return Item(
        index=pick.index,
        key=int(candidates.keys[pick.index]),
        rank=rank,
        score=pick.score,
        similarity=similarity,
        components=pick.components,
        shared=common,
        seed=most,
        contributions=parts,
        relaxed=pick.relaxed,
        explanation=explanations.explanation(
            run.choice, similarity, pick.components, contribution=said, shared=common, relaxed=pick.relaxed
        ),
    )

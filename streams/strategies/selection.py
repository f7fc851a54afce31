"""From candidates to a list: filters, exclusions, the strategy's picks under caps, and what happens if few are left."""

from collections.abc import Callable, Sequence

import numpy as np

from streams.strategies import explanations, facts, registry, seeds
from streams.strategies.gate import CAPPED, WORK
from streams.strategies.picking import Pick, Run
from streams.strategies.types import Candidates, Item, Placement, Query, Selection

# How far down `explain` ranks before it says "below".
DEEPEST = 1000
# More candidates than this are never asked for.
MOST = 5000


def fields_needed(query: Query) -> frozenset[str]:
    """The metadata fields that answering the query reads: what `Candidates.metadata` should hold."""
    needed = {*facts.FIELDS, *(condition.field for condition in query.filters)}
    needed |= {name for name in CAPPED if getattr(query.caps, name) is not None}
    if query.near_duplicates is not None and query.near_duplicates.same_work:
        needed |= set(WORK)
    if registry.resolve(query.strategy, query.mode, query.parameters).strategy.name == registry.AUTO:
        needed |= set(CAPPED)
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


def explain(candidates: Candidates, query: Query, key: int) -> Placement:
    """Where a candidate stands in the answer to a query, or what kept it out.

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
    run = Run(candidates, query)
    if not len(found):
        detail = f"Not among the {len(candidates)} candidates, the most similar tracks"
        return Placement(key, "candidates", None, detail)
    # Of a track given twice, the more similar counts, as in `select`.
    index = int(found[candidates.similarity[found].argmax()])
    return _refused(run, index, key) or _ranked(run, index, key)


def _refused(run: Run, index: int, key: int) -> Placement | None:
    if run.seeds[index]:
        return Placement(key, "seeds", None, "It is a seed or a negative of the query itself")
    if run.excluded[index]:
        return Placement(key, "exclude", None, "The query excludes it")
    unmet = [condition for condition, meets in run.masks.items() if not meets[index]]
    if unmet:
        said = " and ".join(explanations.unmet(condition, run.candidates, index) for condition in unmet)
        return Placement(key, "filters", None, f"It does not meet the filters: {said}")
    return None


def _ranked(run: Run, index: int, key: int) -> Placement:
    run.fill(DEEPEST, until=index)
    ranks = {pick.index: rank for rank, pick in enumerate(run.picks, start=1)}
    if index in ranks:
        (item,) = _items(run, run.picks[-1:], ranks[index])
        detail = f"Ranks {item.rank}, below the first {run.query.top_k}: {item.explanation}"
        return Placement(key, "top_k", item.rank, detail, item)
    if index not in run.gate.cause:
        return Placement(key, "top_k", None, f"Ranks below the first {len(run.picks)}")
    condition, cause = run.gate.cause[index]
    by_rank = f" at rank {ranks[cause]}" if cause in ranks else ""
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

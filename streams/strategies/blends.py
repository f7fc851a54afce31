"""The strategies `popular` and `hybrid`, which blend similarity with other scores."""

from typing import Final

import numpy as np

from streams.strategies import facts
from streams.strategies.arrays import min_max
from streams.strategies.diverse import listening_components, self_information
from streams.strategies.entries import Components, RankingMode, Strategy
from streams.strategies.errors import InvalidQuery
from streams.strategies.explanations import popularity_phrases
from streams.strategies.parameters import pool_parameter, share_parameter
from streams.strategies.ranking import FixedRanking, GreedyMarginal, Ranking
from streams.strategies.types import Candidates, Floats, Query, Settings


def popular(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Score = (1 - w) * similarity' + w * popularity percentile; similarity' is min-max normalised over the pool.

    The percentile is that of the time-decayed, smoothed rate of listening, see `popularity`: its distribution is
    heavy-tailed, its ranks are not. A weighted sum of normalised scores: E. A. Fox and J. A. Shaw, "Combination of
    multiple searches", TREC-2, 1994. Components: `relevance`, `popularity_percentile`, `heard`.
    """
    del query
    relevance, weight = min_max(pool.similarity), float(settings["weight"])
    heard, notes = listening_components(pool)
    score = relevance if pool.percentile is None else (1 - weight) * relevance + weight * pool.percentile
    return FixedRanking(score, {"relevance": relevance, **heard}, notes=notes)


def hybrid(pool: Candidates, query: Query, settings: Settings) -> Ranking:
    """Score = (1 - delta) * blend - delta * the cosine to the most similar track listed already.

    blend = sum(w_c * c) / sum(w_c) over the components c: `relevance` (similarity, min-max normalised over the pool),
    `overlap` (share of the seeds' facts that it has too), `popularity_percentile`, and `novelty_share` (-log2 p, min-max
    normalised). A component without data (no interactions yet, no metadata of the seeds) is left out with its weight.
    Weighted hybrids: R. Burke, "Hybrid recommender systems: survey and experiments", UMUAI 12, 2002; delta is MMR's
    1 - lambda (Carbonell and Goldstein, SIGIR 1998).

    Raises:
        InvalidQuery: every weight is 0.
    """
    parts, notes = _parts(pool, query)
    weights = {name: float(settings[setting]) for name, setting in _SETTING_OF.items()}
    if not any(weights.values()):
        raise InvalidQuery("similarity", "all weights are 0: nothing is left to rank by")
    used = {name: weights[name] for name in parts if weights.get(name)} or {"relevance": 1.0}
    blend = np.zeros(len(pool))
    for name, weight in used.items():
        blend += weight / sum(used.values()) * parts[name]
    if weights["novelty_share"] == 0:
        parts.pop("novelty_share", None)
    parts["blend"] = blend
    delta = float(settings["diversity"])
    if delta and pool.vectors is not None:
        return GreedyMarginal(blend, pool.vectors, 1 - delta, parts, notes)
    return FixedRanking(blend, parts, notes=notes)


_SETTING_OF = {
    "relevance": "similarity",
    "overlap": "metadata",
    "popularity_percentile": "popularity",
    "novelty_share": "novelty",
}


def _parts(pool: Candidates, query: Query) -> tuple[dict[str, Floats], tuple[str, ...]]:
    parts, notes = {"relevance": min_max(pool.similarity)}, []
    overlap = facts.facts_in_common(query.seeds, pool)
    if overlap is None:
        notes.append("nothing is known of the seeds: their metadata does not count")
    else:
        parts["overlap"] = overlap
    heard, said = listening_components(pool)
    parts |= heard
    if pool.probability is not None:
        parts["novelty_share"] = min_max(self_information(pool.probability))
    return parts, (*notes, *said)


def _explain_hybrid(parts: Components) -> list[str]:
    penalty = parts.get("mmr_penalty", 0.0)
    return [
        f"blend {parts['blend']:.3f}",
        *popularity_phrases(parts),
        f"less {penalty:.3f} for likeness to the tracks above it" if penalty > 0 else "",
    ]


POPULAR: Final = Strategy(
    "popular",
    "Tracks like the reference that many listen to lately.",
    (
        RankingMode(
            description="Similarity blended with popularity.",
            formula="score = (1 - weight) * similarity' + weight * popularity percentile",
            source="Fox and Shaw 1994; Gamma-Poisson smoothing: Clayton and Kaldor 1987",
            rank=popular,
            needs=frozenset({"popularity"}),
            goal="popular",
            explain=popularity_phrases,
        ),
    ),
    (share_parameter("weight", 0.5, "popularity against similarity"), pool_parameter(200)),
)

HYBRID: Final = Strategy(
    "hybrid",
    "A bit of everything: likeness in sound and in facts, popularity, and variety.",
    (
        RankingMode(
            description="A weighted blend, diversified.",
            formula="score = (1 - diversity) * weighted mean(similarity', metadata, popularity, novelty') "
            "- diversity * max cosine to the tracks above",
            source="Burke 2002; Carbonell and Goldstein 1998",
            rank=hybrid,
            uses=frozenset({"vectors", "popularity", "metadata"}),
            goal="balanced",
            explain=_explain_hybrid,
        ),
    ),
    (
        share_parameter("similarity", 0.6, "weight of similarity"),
        share_parameter("metadata", 0.2, "weight of the facts in common with the seeds"),
        share_parameter("popularity", 0.2, "weight of the popularity percentile"),
        share_parameter("novelty", 0.0, "weight of novelty"),
        share_parameter("diversity", 0.2, "how much a track loses by being like those above it"),
        pool_parameter(200),
    ),
    aliases={"balanced": None},
)

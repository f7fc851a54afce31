"""The strategy `diverse`: MMR, clusters, novelty, serendipity, contrast."""

from typing import Final

import numpy as np

from streams.strategies import facts
from streams.strategies.arrays import cosines, min_max
from streams.strategies.clusters import spherical_kmeans
from streams.strategies.entries import Components, RankingMode, Strategy
from streams.strategies.errors import MissingData
from streams.strategies.explanations import format_percent, popularity_phrases
from streams.strategies.parameters import Parameter, share_parameter
from streams.strategies.ranking import FixedRanking, GreedyMarginal
from streams.strategies.types import Candidates, Floats, Query, Settings, Vectors

NO_POPULARITY = "nothing is known of popularity yet"
UNHEARD = "nobody has listened to any of the candidates yet: popularity does not tell them apart"


def _vectors(pool: Candidates, mode: str) -> Vectors:
    if pool.vectors is None:
        raise MissingData(f"{mode} needs the candidates' vectors")
    return pool.vectors


def mmr(pool: Candidates, query: Query, settings: Settings) -> GreedyMarginal:
    """Score = lambda * similarity - (1 - lambda) * the cosine to the most similar track listed already.

    J. Carbonell and J. Goldstein, SIGIR 1998; see `ranking.GreedyMarginal`. Components: `nearest_listed`, the
    cosine, and `mmr_penalty`, what it cost.
    """
    del query
    return GreedyMarginal(
        pool.similarity.astype(np.float64), _vectors(pool, "diverse/mmr"), float(settings["lambda"])
    )


def _explain_mmr(parts: Components) -> list[str]:
    if "nearest_listed" not in parts:
        return ["nothing above it to repeat"]
    return [
        f"at most {parts['nearest_listed']:.3f} to the tracks above it (MMR penalty {parts['mmr_penalty']:.3f})"
    ]


MMR: Final = RankingMode(
    name="mmr",
    description="Maximal marginal relevance: each next track like the reference, unlike those above it.",
    formula="score = lambda * similarity - (1 - lambda) * max cosine to the tracks above",
    source="Carbonell and Goldstein 1998",
    rank=mmr,
    needs=frozenset({"vectors"}),
    goal="variety",
    explain=_explain_mmr,
)


def cluster(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """The best of each cluster of the candidates, then the second best of each, and so on; score = similarity.

    Clusters by spherical k-means (I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data
    using clustering", Machine Learning 42, 2001) from a farthest-first start (T. F. Gonzalez, 1985), so that nothing
    is drawn at random. Within a round, clusters are ordered by their best member. With `one_per_cluster`, what is
    left over after the first round comes by similarity alone. Components: `cluster` (1 is the best candidate's) and
    `cluster_size`.
    """
    vectors = _vectors(pool, "diverse/cluster")
    score = pool.similarity.astype(np.float64)
    if not len(pool):
        return FixedRanking(score)
    wanted = int(settings["clusters"]) or query.top_k
    found = spherical_kmeans(vectors, min(wanted, len(pool)), first=int(score.argmax()))
    by_score = np.argsort(-score, kind="stable")
    number, place = np.empty(len(pool), dtype=np.intp), np.empty(len(pool), dtype=np.intp)
    numbers: dict[int, int] = {}
    filled: dict[int, int] = {}
    for index in by_score.tolist():
        label = int(found[index])
        number[index] = numbers.setdefault(label, len(numbers))
        place[index] = filled[label] = filled.get(label, -1) + 1
    rounds = np.minimum(place, 1) if settings["one_per_cluster"] else place
    within = np.where(rounds == 0, number, -1) if settings["one_per_cluster"] else number
    order = np.lexsort((np.argsort(by_score), within, rounds))
    sizes = np.bincount(number)[number]
    parts = {"cluster": (number + 1).astype(np.float64), "cluster_size": sizes.astype(np.float64)}
    return FixedRanking(score, parts, order)


def _explain_cluster(parts: Components) -> list[str]:
    size = int(parts["cluster_size"])
    return [f"from cluster {int(parts['cluster'])} ({size} candidate{'s' if size > 1 else ''})"]


CLUSTER: Final = RankingMode(
    name="cluster",
    description="The best of each cluster of the candidates, round after round.",
    formula="spherical k-means; order = (place within cluster, best of cluster); score = similarity",
    source="Dhillon and Modha 2001; Gonzalez 1985",
    rank=cluster,
    needs=frozenset({"vectors"}),
    goal="complement",
    explain=_explain_cluster,
    # Clusters of many candidates have their best members far from the seed: measured, they cost more than they add.
    pool_factor=5,
)


def listening_components(pool: Candidates) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The popularity of candidates as components, and notes for the caller.

    Components, float64 (n,): `popularity_percentile`, and `heard`, 1 if the track has interactions, else 0.
    """
    if pool.percentile is None:
        return {}, (NO_POPULARITY,)
    if pool.heard is None:
        return {"popularity_percentile": pool.percentile}, ()
    parts = {"popularity_percentile": pool.percentile, "heard": pool.heard.astype(np.float64)}
    return parts, (() if pool.heard.any() or not len(pool) else (UNHEARD,))


def self_information(probability: Floats) -> Floats:
    """-log2 p, in bits: how much of a surprise it is that somebody listens to the track; float64 (n,)."""
    return np.asarray(-np.log2(probability), dtype=np.float64)


def novelty(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Score = (1 - w) * similarity' + w * novelty', both min-max normalised over the pool; novelty = -log2 p.

    p is the track's share of all listening. T. Zhou et al., "Solving the apparent diversity-accuracy dilemma of
    recommender systems", PNAS 107(10), 2010; P. Castells, S. Vargas and J. Wang, "Novelty and diversity metrics for
    recommender systems", 2011. Components: `relevance` (similarity'), `novelty` (bits), those of `listening_components`.
    """
    del query
    relevance, weight = min_max(pool.similarity), float(settings["weight"])
    heard, notes = listening_components(pool)
    if pool.probability is None:
        return FixedRanking(relevance, {"relevance": relevance}, notes=notes)
    bits = self_information(pool.probability)
    parts = {"relevance": relevance, "novelty": bits, **heard}
    return FixedRanking((1 - weight) * relevance + weight * min_max(bits), parts, notes=notes)


def _explain_novelty(parts: Components) -> list[str]:
    known = [f"novelty {parts['novelty']:.1f} bits"] if "novelty" in parts else []
    return [*known, *popularity_phrases(parts)]


NOVELTY: Final = RankingMode(
    name="novelty",
    description="Little-known tracks like the reference.",
    formula="score = (1 - weight) * similarity' + weight * (-log2 p)'; ' = min-max normalised",
    source="Zhou et al. 2010; Castells, Vargas and Wang 2011",
    rank=novelty,
    needs=frozenset({"popularity"}),
    goal="discover",
    explain=_explain_novelty,
)


def serendipity(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Score = relevance * unexpectedness: relevant and unexpected, or not serendipitous.

    relevance is the similarity, min-max normalised over the pool. unexpectedness = m * (1 - overlap) + (1 - m) * (1 -
    typicality): overlap is the share of the seeds' facts that the candidate has too (`facts.facts_in_common`), typicality its
    cosine to the mean of the pool, min-max normalised, and m the setting `metadata`. Where nothing is known of the
    seeds, typicality counts alone.
    M. Ge, C. Delgado-Battenfeld and D. Jannach, "Beyond accuracy: evaluating recommender systems by coverage and
    serendipity", RecSys 2010; P. Adamopoulos and A. Tuzhilin, "On unexpectedness in recommender systems", ACM TIST
    5(4), 2014. Components: `relevance`, `overlap`, `typicality`, `unexpectedness`.
    """
    vectors = _vectors(pool, "diverse/serendipity")
    relevance = min_max(pool.similarity)
    if not len(pool):
        return FixedRanking(relevance)
    typical = min_max(_to_mean(vectors))
    parts = {"relevance": relevance, "typicality": typical}
    overlap = facts.facts_in_common(query.seeds, pool)
    notes: tuple[str, ...] = ()
    if overlap is None:
        unexpected, notes = (
            1 - typical,
            ("nothing is known of the seeds: only typicality says what is expected",),
        )
    else:
        share = float(settings["metadata"])
        unexpected = share * (1 - overlap) + (1 - share) * (1 - typical)
        parts["overlap"] = overlap
    parts["unexpectedness"] = unexpected
    return FixedRanking(relevance * unexpected, parts, notes=notes)


def _to_mean(vectors: Vectors) -> Floats:
    mean = vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-9:  # they cancel out: none is more typical than another
        return np.zeros(len(vectors))
    return cosines(vectors, (mean / length).astype(np.float32)[None])[:, 0].astype(np.float64)


def _explain_serendipity(parts: Components) -> list[str]:
    said = f"unexpectedness {parts['unexpectedness']:.2f}"
    if "overlap" in parts:
        return [
            f"{said} ({format_percent(parts['overlap'])} of the reference's facts, typicality {parts['typicality']:.2f})"
        ]
    return [f"{said} (typicality {parts['typicality']:.2f})"]


SERENDIPITY: Final = RankingMode(
    name="serendipity",
    description="Like the reference, but not what its facts or the other candidates would lead one to expect.",
    formula="score = similarity' * (metadata * (1 - overlap) + (1 - metadata) * (1 - typicality))",
    source="Ge, Delgado-Battenfeld and Jannach 2010; Adamopoulos and Tuzhilin 2014",
    rank=serendipity,
    needs=frozenset({"vectors"}),
    uses=frozenset({"metadata"}),
    goal="surprise",
    explain=_explain_serendipity,
)


def contrast(pool: Candidates, query: Query, settings: Settings) -> FixedRanking:
    """Score = relation * (1 - cosine) / 2: as far as can be among the tracks of the same form or instrument.

    relation is 1 where a candidate has the form and the instrument of some seed, as far as the seeds' are known, 1/2
    where it has one of two, 0 where it has neither; those come last, the farthest first. Where the seeds' form and
    instrument are unknown, distance counts alone. Distance as the cosine's complement: C.-N. Ziegler et al.,
    "Improving recommendation lists through topic diversification", WWW 2005.
    Components: `relation`, `distance`.
    """
    del settings
    distance = (1 - pool.similarity.astype(np.float64)) / 2
    related = [m for name in ("form", "instrument") if (m := _any_seed(query, pool, name)) is not None]
    if not related:
        notes = ("form and instrument of the seeds are unknown: contrast is by distance alone",)
        return FixedRanking(distance, {"distance": distance}, notes=notes)
    relation = np.mean(related, axis=0)
    score = relation * distance
    order = np.lexsort((np.arange(len(pool)), -distance, -score))
    return FixedRanking(score, {"relation": relation, "distance": distance}, order)


def _any_seed(query: Query, pool: Candidates, name: str) -> Floats | None:
    found = [
        m for seed in query.seeds if (m := facts.matching_candidates(seed.metadata, pool, name)) is not None
    ]
    return np.any(found, axis=0).astype(np.float64) if found else None


def _explain_contrast(parts: Components) -> list[str]:
    return [f"deliberately different (distance {parts['distance']:.3f} of 1)"]


CONTRAST: Final = RankingMode(
    name="contrast",
    description="As different as can be, of the same form or instrument.",
    formula="score = relation * (1 - similarity) / 2; relation = share of form and instrument in common",
    source="Ziegler et al. 2005",
    rank=contrast,
    uses=frozenset({"metadata"}),
    goal="contrast",
    explain=_explain_contrast,
    pool=5_000,
    similar_first=False,
)


DIVERSE: Final = Strategy(
    "diverse",
    "Tracks like the reference that differ among themselves.",
    (MMR, CLUSTER, NOVELTY, SERENDIPITY, CONTRAST),
    (
        share_parameter("lambda", 0.7, "relevance against diversity; 1 is similarity", "mmr"),
        Parameter("clusters", "integer", 0, "how many clusters; 0 means top_k", 0, 50, ("cluster",)),
        Parameter(
            "one_per_cluster",
            "boolean",
            False,
            "one track of each cluster; if more are needed, they follow by similarity",
            modes=("cluster",),
        ),
        share_parameter("weight", 0.5, "novelty against similarity", "novelty"),
        share_parameter("metadata", 0.5, "unexpected by its facts against untypical in sound", "serendipity"),
        Parameter(
            "pool",
            "integer",
            0,
            "how many of the most similar tracks that may be listed are re-ranked; 0 means 200, for cluster five "
            "times top_k, for contrast 5,000",
            0,
            5000,
        ),
    ),
    aliases={"complementary": "cluster"},
)

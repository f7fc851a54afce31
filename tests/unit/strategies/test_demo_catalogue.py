"""The strategies on real works: what each is for shows in its lists."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from mess.demo.catalogue import DemoCatalogue, load_demo_catalogue
from streams.strategies import (
    CandidateColumns,
    Candidates,
    NearDuplicates,
    Query,
    Seed,
    fields_needed,
    metrics,
    registry,
    select_list,
)
from streams.strategies.popularity import listening_shares, rate_percentiles

pytestmark = pytest.mark.unit

SAMPLE, NEAREST = 60, 300


@cache
def catalogue() -> DemoCatalogue:
    """The demo catalogue, read once."""
    return load_demo_catalogue()


@cache
def listening() -> tuple[np.ndarray, np.ndarray]:
    """A heavy-tailed popularity, invented but fixed: (probability, percentile)."""
    rates = np.minimum(np.random.default_rng(0).zipf(1.6, len(catalogue())), 10_000).astype(np.float64)
    return listening_shares(rates), rate_percentiles(rates)


@cache
def sample() -> list[tuple[int, Candidates]]:
    """Seeds drawn evenly, each with its nearest works."""
    works, (share, standing) = catalogue(), listening()
    fields = fields_needed(Query(strategy="auto", near_duplicates=NearDuplicates())) | {"form"}
    made = []
    for seed in range(50, len(works), len(works) // SAMPLE):
        similarity = works.embeddings @ works.embeddings[seed]
        nearest = np.argsort(-similarity)[:NEAREST]
        made.append(
            (
                seed,
                Candidates(
                    keys=nearest.astype(np.int64),
                    labels=nearest.astype(np.int64),
                    similarity=similarity[nearest],
                    vectors=works.embeddings[nearest],
                    metadata=CandidateColumns([works.tracks[i].metadata for i in nearest], fields),
                    percentile=standing[nearest],
                    probability=share[nearest],
                ),
            )
        )
    return made


@cache
def figures(strategy: str, mode: str | None = None) -> dict[str, float]:
    """Mean over the sample: diversity, precision@10 by form, novelty, percentile, similarity; and coverage."""
    works, (share, standing) = catalogue(), listening()
    rows: list[dict[str, float]] = []
    lists = []
    for seed, pool in sample():
        facts = works.tracks[seed].metadata
        start = Seed(seed, vector=works.embeddings[seed], metadata=facts)
        keys = select_list(pool, Query(seeds=(start,), strategy=strategy, mode=mode, moment=1e9)).keys
        same = [key for key in keys if works.tracks[key].metadata.get("form") == facts.get("form")]
        lists.append(keys)
        rows.append(
            {
                "diversity": metrics.intra_list_diversity(works.embeddings[keys]),
                "precision": len(same) / 10,
                "novelty": metrics.list_novelty(share[keys]),
                "percentile": float(standing[keys].mean()),
                "similarity": float((works.embeddings[keys] @ works.embeddings[seed]).mean()),
            }
        )
    means: dict[str, Any] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**means, "coverage": metrics.catalogue_coverage(lists, len(works))}


def test_mmr_raises_diversity_at_a_small_cost_in_precision() -> None:
    """By a tenth at least, and no more than five points of precision are paid for it."""
    plain, diverse = figures("similarity"), figures("diverse", "mmr")
    assert diverse["diversity"] > 1.1 * plain["diversity"]
    assert diverse["precision"] > plain["precision"] - 0.05


def test_clusters_raise_diversity_further() -> None:
    """One of each cluster differs more than what MMR trades off."""
    assert figures("diverse", "cluster")["diversity"] > figures("diverse", "mmr")["diversity"]


def test_novelty_and_popular_pull_in_opposite_directions() -> None:
    """Novelty lists the little known, popular the well known, similarity neither."""
    plain, novel, popular = figures("similarity"), figures("diverse", "novelty"), figures("popular")
    assert novel["novelty"] > plain["novelty"] + 0.5
    assert popular["percentile"] > plain["percentile"] + 0.2
    assert popular["novelty"] < plain["novelty"] - 1


def test_serendipity_leaves_the_seeds_form_and_contrast_keeps_it() -> None:
    """Unexpected works are of other forms; contrasting ones are far, yet of the same."""
    plain, serendipity, contrast = (
        figures("similarity"),
        figures("diverse", "serendipity"),
        figures("diverse", "contrast"),
    )
    assert serendipity["precision"] < plain["precision"]
    assert contrast["precision"] > plain["precision"]
    assert contrast["similarity"] < plain["similarity"] - 0.1


def test_hybrid_finds_more_of_the_same_form() -> None:
    """Facts count beside sound, so that more of a list shares the seed's form."""
    assert figures("hybrid")["precision"] > figures("similarity")["precision"]


@pytest.mark.parametrize("strategy", [strategy.name for strategy in registry.STRATEGIES])
def test_every_strategy_fills_its_lists_and_explains_each_track(strategy: str) -> None:
    """Ten works a seed, each with its sentence, in every mode."""
    works = catalogue()
    modes = next(s.modes for s in registry.STRATEGIES if s.name == strategy)
    for seed, pool in sample()[:5]:
        start = Seed(seed, vector=works.embeddings[seed], metadata=works.tracks[seed].metadata)
        for mode in modes:
            made = select_list(pool, Query(seeds=(start,), strategy=strategy, mode=mode.name))
            assert len(made.items) == 10
            assert made.relaxed == ()
            assert all(item.explanation.startswith("Cosine similarity ") for item in made.items)

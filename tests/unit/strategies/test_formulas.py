"""Each strategy against numbers worked out by hand."""

import numpy as np
import pytest

from streams.strategies import (
    Candidates,
    Caps,
    InvalidQuery,
    MissingData,
    Query,
    Seed,
    Selection,
    facts,
    select_list,
)
from streams.strategies.clusters import spherical_kmeans
from streams.strategies.exploration import gumbel_noise
from streams.strategies.ranking import GreedyMarginal
from tests.unit.strategies.helpers import around, candidates, unit

pytestmark = pytest.mark.unit


def asked(pool: Candidates, strategy: str, mode: str | None = None, *, seeds=(), top_k=10, **settings):
    """A list by a strategy with settings."""
    return select_list(
        pool, Query(strategy=strategy, mode=mode, seeds=seeds, top_k=top_k, parameters=settings)
    )


def scores(selection: Selection) -> list[float]:
    """What the items were ranked by."""
    return [item.score for item in selection.items]


def test_similarity_orders_by_cosine_then_label() -> None:
    """Equal cosines stand in the order of their labels."""
    pool = candidates([0.5, 0.9, 0.5, 0.7], labels=np.array([3, 2, 1, 0]))
    made = asked(pool, "similarity")
    assert made.keys == [1, 3, 2, 0]
    assert scores(made) == pytest.approx([0.9, 0.7, 0.5, 0.5])


def test_mmr_by_hand() -> None:
    """The second pick is the less similar track, since the more similar one repeats the first."""
    vectors = np.array([[1, 0], [0.96, 0.28], [0.6, -0.8]], dtype=np.float32)
    pool = candidates([0.9, 0.8, 0.6], vectors=vectors)
    made = asked(pool, "diverse", "mmr", **{"lambda": 0.5})
    assert made.keys == [0, 2, 1]
    # Half of .9; of .6 less .6; of .8 less .96, the cosine of the second vector to the first.
    assert scores(made) == pytest.approx([0.45, 0.0, 0.4 - 0.48], abs=1e-6)
    assert made.items[0].components == {"mmr_penalty": 0.0}
    assert made.items[1].components == pytest.approx({"nearest_listed": 0.6, "mmr_penalty": 0.3})


@pytest.mark.parametrize("count", [400, 700])
def test_lazy_mmr_picks_as_the_plain_algorithm(count: int) -> None:
    """Bounds save comparisons, not picks: 60 picks of a small or a large pool are those of the textbook loop."""
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(count, 12)))
    relevance = rng.uniform(0, 1, count)
    for weight in (0.0, 0.3, 0.7, 0.95):
        ranking = GreedyMarginal(relevance, vectors, weight)
        available, picks, plain = np.ones(count, dtype=bool), [], []
        for _ in range(60):
            best = ranking.best(available)
            assert best is not None
            picks.append(best)
            available[best] = False
            ranking.take(best)
        wide = vectors.astype(np.float64)
        for _ in range(60):
            nearest = (wide @ wide[plain].T).max(axis=1) if plain else np.zeros(count)
            gain = weight * relevance - (1 - weight) * nearest
            gain[plain] = -np.inf
            plain.append(int(gain.argmax()))
        assert picks == plain


def test_cluster_takes_the_best_of_each_in_turn() -> None:
    """Three bundles of vectors: one of each, best first, then the seconds."""
    vectors = unit([[1, 0.01, 0], [1, 0.02, 0], [1, 0.03, 0], [0, 1, 0.01], [0, 1, 0.02], [0, 0, 1]])
    pool = candidates([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], vectors=vectors)
    made = asked(pool, "complementary", clusters=3)
    assert made.choice.strategy == "diverse"
    assert made.choice.mode == "cluster"
    assert made.keys == [0, 3, 5, 1, 4, 2]
    assert [item.components["cluster"] for item in made.items] == [1, 2, 3, 1, 2, 1]
    assert [item.components["cluster_size"] for item in made.items] == [3, 2, 1, 3, 2, 3]
    once = asked(pool, "diverse", "cluster", clusters=3, one_per_cluster=True)
    assert once.keys == [0, 3, 5, 1, 2, 4]


def test_clusters_are_those_of_the_data() -> None:
    """Four bundles on the axes come back as four clusters, wherever the start is."""
    rng = np.random.default_rng(1)
    vectors = unit(np.repeat(np.eye(4), 25, axis=0) + rng.normal(scale=0.05, size=(100, 4)))
    for first in (0, 37, 99):
        labels = spherical_kmeans(vectors, 4, first=first)
        assert [len(set(labels[i : i + 25])) for i in range(0, 100, 25)] == [1, 1, 1, 1]
        assert len(set(labels)) == 4


def test_facts_are_numbered_by_what_they_say() -> None:
    """Alike whatever their case or type; what says nothing has no number."""
    found = facts.field_codes("composer", ["Bach", None, " bach", "Anonymous", 1, True, "1", ""])
    assert found is not None
    assert found[1].tolist() == [0, -1, 0, -1, 1, 2, 1, -1]
    assert found[0] == {"bach": 0, "1": 1, "true": 2}


def test_fewer_distinct_vectors_than_clusters() -> None:
    """Copies of one vector are one cluster, however many are asked for."""
    assert set(spherical_kmeans(unit([[1, 2], [1, 2], [2, 4]]), 3)) == {0}


def test_novelty_by_hand() -> None:
    """-log2 p of 1/2, 1/8 and 1/32 is 1, 3 and 5 bits: 0, 1/2 and 1 when normalised."""
    pool = candidates([1.0, 0.5, 0.0], probability=np.array([1 / 2, 1 / 8, 1 / 32]))
    made = asked(pool, "diverse", "novelty", weight=0.75)
    assert made.keys == [2, 1, 0]
    assert scores(made) == pytest.approx([0.75, 0.25 * 0.5 + 0.75 * 0.5, 0.25])
    assert [item.components["novelty"] for item in made.items] == [5.0, 3.0, 1.0]


def test_serendipity_by_hand() -> None:
    """Relevance times the mean of what the facts and the sound of a candidate leave unexpected."""
    seed = Seed(99, metadata={"composer": "Bach", "form": "fugue"})
    rows = [{"composer": "Bach", "form": "fugue"}, {"composer": "Bach", "form": "aria"}, {"composer": "Cage"}]
    vectors = unit([[1, 0], [1, 1], [0, 1]])  # the middle one is the mean; the others are equally far from it
    pool = candidates([0.9, 0.8, 0.5], rows, vectors=vectors)
    made = asked(pool, "diverse", "serendipity", seeds=(seed,), metadata=0.5)
    by_key = {item.key: item for item in made.items}
    assert by_key[0].components == pytest.approx(
        {"relevance": 1, "overlap": 1, "typicality": 0, "unexpectedness": 0.5}, abs=1e-6
    )
    # composer weighs .3 and form .2: half of .4 unexpected by facts, none by sound
    assert by_key[1].components["overlap"] == pytest.approx(0.6)
    assert by_key[1].score == pytest.approx(0.75 * 0.5 * 0.4, abs=1e-6)
    assert by_key[2].score == 0.0
    assert made.keys == [0, 1, 2]


def test_contrast_by_hand() -> None:
    """The farthest of those that share form and instrument, then those that share one, then the rest."""
    seed = Seed(99, metadata={"form": "Fugue", "instrument": "organ"})
    rows = [
        {"form": "fugue", "instrument": "organ"},
        {"form": "fugue", "instrument": "organ"},
        {"form": "fugue", "instrument": "piano"},
        {"form": "aria", "instrument": "voice"},
    ]
    made = asked(candidates([0.8, 0.2, -0.5, -1.0], rows), "diverse", "contrast", seeds=(seed,))
    assert made.keys == [1, 2, 0, 3]
    assert scores(made) == pytest.approx([0.4, 0.375, 0.1, 0.0])


def test_contrast_without_relation_goes_by_distance() -> None:
    """Unrelated tracks come farthest first, and so do all where form and instrument are unknown; a note says so."""
    rows = [{"form": "aria"}, {"form": "aria"}, {"form": "fugue"}]
    pool = candidates([0.8, -0.5, 0.9], rows)
    fugue = asked(pool, "diverse", "contrast", seeds=(Seed(99, metadata={"form": "fugue"}),), top_k=3)
    assert (fugue.keys, fugue.notes) == ([2, 1, 0], ())
    unknown = asked(pool, "diverse", "contrast", seeds=(Seed(99),), top_k=3)
    assert unknown.keys == [1, 0, 2]
    assert "by distance alone" in unknown.notes[0]


def test_overlap_is_the_mean_by_the_seeds_weights() -> None:
    """Of two seeds that weigh 3 and 1, what is shared with the first counts three quarters."""
    start = (
        Seed(98, 3.0, metadata={"form": "fugue"}),
        Seed(99, 1.0, metadata={"form": "aria"}),
        Seed(97, 9.0),
    )
    found = facts.facts_in_common(
        start, candidates([0.5, 0.5, 0.5], [{"form": "Fugue"}, {"form": "aria"}, {}])
    )
    assert found == pytest.approx([0.75, 0.25, 0.0])


def test_popular_by_hand() -> None:
    """Halfway between the normalised similarity and the percentile."""
    pool = candidates([0.9, 0.7, 0.5], percentile=np.array([0.1, 0.6, 0.9]))
    made = asked(pool, "popular")
    assert made.keys == [0, 1, 2]
    assert scores(made) == pytest.approx([0.55, 0.55, 0.45])
    assert asked(pool, "popular", weight=1).keys == [2, 1, 0]
    assert asked(pool, "popular", weight=0).keys == [0, 1, 2]


def test_hybrid_by_hand() -> None:
    """A weighted mean of similarity, facts and popularity, less what repeats the tracks above."""
    seed = Seed(99, metadata={"composer": "Bach"})
    rows = [{"composer": "Cage"}, {"composer": "bach"}]
    vectors = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    pool = candidates([0.9, 0.5], rows, vectors=vectors, percentile=np.array([0.5, 1.0]))
    settings = {"similarity": 0.5, "metadata": 0.3, "popularity": 0.2}
    made = asked(pool, "balanced", seeds=(seed,), diversity=0, **settings)
    assert made.keys == [0, 1]
    assert scores(made) == pytest.approx([0.5 + 0.1, 0.3 + 0.2])
    varied = asked(pool, "hybrid", seeds=(seed,), diversity=0.5, **settings)
    assert scores(varied) == pytest.approx([0.5 * 0.6, 0.5 * 0.5 - 0.5 * 0.6])


def test_hybrid_leaves_out_what_is_unknown() -> None:
    """Without interactions or metadata similarity alone counts, and the notes say so."""
    made = asked(candidates([0.2, 0.9, 0.5]), "hybrid", top_k=3)
    assert made.keys == [1, 2, 0]
    assert len(made.notes) == 2
    by_popularity = {"similarity": 0, "metadata": 0, "popularity": 1, "diversity": 0}
    assert asked(candidates([0.2, 0.9, 0.5]), "hybrid", **by_popularity).keys == [1, 2, 0]
    with pytest.raises(InvalidQuery, match="all weights are 0"):
        asked(candidates([0.2]), "hybrid", similarity=0, metadata=0, popularity=0, novelty=0)


@pytest.mark.parametrize("strategy", ["popular", "novelty"])
def test_no_interactions_yet_is_said(strategy: str) -> None:
    """Strategies that need popularity answer by similarity where none is known."""
    name, mode = ("diverse", strategy) if strategy == "novelty" else (strategy, None)
    made = asked(candidates([0.2, 0.9, 0.5]), name, mode, top_k=3)
    assert made.keys == [1, 2, 0]
    assert made.notes == ("nothing is known of popularity yet",)


def test_random_is_the_same_within_a_window_and_seed() -> None:
    """The draw depends on seed track, window and the setting `seed`, and on nothing else."""
    pool = candidates(np.linspace(0, 1, 60))

    def draw(moment: float = 7200.0, key: int = 1001, **settings: int) -> list[int]:
        query = Query(strategy="random", seeds=(Seed(key),), moment=moment, parameters=settings)
        return select_list(pool, query).keys

    assert draw() == draw() == draw(moment=7200.0 + 3599)
    assert draw() != draw(moment=7200.0 + 3600)
    assert draw() != draw(key=1002)
    assert draw() != draw(seed=1)


def test_random_draws_by_weight() -> None:
    """The first of a draw is candidate i with probability proportional to exp(relevance / temperature)."""
    pool = candidates([0.0, 0.5, 1.0], keys=np.array([1001, 1002, 1003]))
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    first = np.zeros(3)
    for window in range(3000):
        query = Query(
            strategy="exploration", moment=window * 3600.0, top_k=1, parameters={"temperature": 0.5}
        )
        first[select_list(pool, query).indices[0]] += 1
    # Fixed by the hash, so this never flickers; four standard errors are 0.036.
    assert first / 3000 == pytest.approx(expected, abs=0.036)


def test_gumbel_noise_has_its_mean_and_deviation() -> None:
    """Of consecutive keys too: mean 0.5772, standard deviation pi / sqrt(6)."""
    noise = gumbel_noise(np.arange(100_000, dtype=np.int64) - 50_000, 12345)
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.std() == pytest.approx(np.pi / np.sqrt(6), abs=0.02)


def test_what_needs_vectors_says_so() -> None:
    """MMR, clusters and serendipity cannot do without; the calling code is told."""
    for mode in ("mmr", "cluster", "serendipity"):
        with pytest.raises(MissingData, match="vectors"):
            asked(candidates([0.5, 0.4]), "diverse", mode)


def test_arrays_that_do_not_fit_are_refused() -> None:
    """A column of another length, or a similarity that is not finite, never reaches a strategy."""
    with pytest.raises(ValueError, match="similarity"):
        candidates([0.5, np.nan])
    with pytest.raises(ValueError, match="percentile"):
        candidates([0.5, 0.4], percentile=np.array([0.5]))
    with pytest.raises(ValueError, match="probability"):
        candidates([0.5, 0.4], probability=np.array([0.5, 0.0]))
    with pytest.raises(ValueError, match="vectors"):
        candidates([0.5, 0.4], vectors=unit([[1, 0]]))


def test_a_pool_that_runs_out_is_widened() -> None:
    """Candidates beyond the re-ranked pool follow when those in it are capped away."""
    rows = [{"composer": "Bach"}] * 40 + [{"composer": f"c{i}"} for i in range(9)]
    vectors = unit(np.random.default_rng(2).normal(size=(49, 8)))
    pool = candidates(np.linspace(0.9, 0.1, 49), rows, vectors=vectors)
    query = Query(strategy="diverse", parameters={"pool": 10}, caps=Caps(composer=1))
    made = select_list(pool, query)
    assert made.relaxed == ()
    assert sorted(made.keys)[1:] == list(range(40, 49))


def test_around_is_consistent() -> None:
    """Similarity given to a strategy is what its items report."""
    vectors = unit([[1, 0], [1, 1]])
    made = asked(around(vectors[0], vectors), "similarity")
    assert [item.similarity for item in made.items] == pytest.approx([1.0, np.sqrt(0.5)])


def test_a_pool_holds_the_most_similar_whatever_their_labels() -> None:
    """Re-ranking starts from the nearest, not from those whose ids come first."""
    pool = candidates(np.linspace(0.1, 0.9, 50), percentile=np.full(50, 0.5))
    made = select_list(pool, Query(strategy="popular", parameters={"pool": 10}))
    assert made.keys == list(range(49, 39, -1))

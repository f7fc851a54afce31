"""Cells: how a catalogue is divided, how far a query looks, and what that is measured to be worth."""

from itertools import pairwise

import numpy as np
import psutil
import pytest

from streams.engine.search.growing import GrowingRows
from streams.engine.search.index_build import BuildFailedError, BuiltIndex, IndexBuild, choose_directions
from streams.engine.search.inverted_file import ROOM, Probe, SearchInvertedFile, divide_into_cells
from streams.engine.search.quality import EASY, QualitySample, reliable_similarity, tune_cells
from streams.engine.types import Slots, Vectors

pytestmark = pytest.mark.unit

D, TRACKS = 64, 6_000


def clustered(count: int, seed: int) -> Vectors:
    """Unit vectors as embeddings are: clusters along few directions, with noise."""
    world = np.random.default_rng(7)
    centroids, up = world.standard_normal((40, 12)), world.standard_normal((12, D))
    rng = np.random.default_rng(seed)
    made = (centroids[rng.integers(0, 40, count)] + 0.7 * rng.standard_normal((count, 12))) @ up
    made += 0.3 * rng.standard_normal(made.shape)
    scaled: Vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def in_cells(vectors: Vectors) -> tuple[SearchInvertedFile, Vectors]:
    """Cells, and the vectors in their order."""
    cells, order = divide_into_cells(vectors, np.random.default_rng(0))
    return cells, vectors[order]


def look(
    cells: SearchInvertedFile, vectors: Vectors, queries: Vectors, count: int, slack: float
) -> list[set[int]]:
    """The best rows that each query finds."""
    probe = Probe(cells, vectors, queries, count, np.empty(0, dtype=np.intp), slack)
    everyone = np.arange(len(queries))
    found = []
    for upper in probe.finish(everyone):
        best = np.sort(np.argsort(-upper.products, kind="stable")[:count])
        found.append(set(upper.rows_of(best).tolist()))
    return found


@pytest.mark.parametrize("alike", [False, True])
def test_every_row_is_in_one_cell_and_none_is_overfull(alike: bool) -> None:
    """Cells hold every row once, at most twice the mean, also where all rows are the same."""
    vectors = np.repeat(clustered(1, 1), 3_000, axis=0) if alike else clustered(3_000, 1)
    cells, order = divide_into_cells(vectors, np.random.default_rng(0))
    assert np.array_equal(np.sort(order), np.arange(3_000))
    assert cells.starts[0] == 0
    assert cells.starts[-1] == 3_000
    assert cells.sizes.min() >= 1
    assert cells.width <= ROOM * 3_000 / round(2 * 3_000**0.5)
    assert np.allclose(np.linalg.norm(cells.centroids, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_divided_too(rows: int) -> None:
    """A handful of rows is in cells, and a query for more than there are finds them all."""
    cells, vectors = in_cells(clustered(rows, 2))
    assert look(cells, vectors, clustered(1, 3), 50, 0.0)[0] >= set(range(rows))


def test_the_slack_measured_gives_the_recall_wanted_to_other_queries() -> None:
    """Tuned on its own sample, a look into cells has recall@50 of 0.99, near tracks and between them, and leaves most cells out."""
    cells, vectors = in_cells(clustered(TRACKS, 1))
    sample = QualitySample.of(vectors, np.random.default_rng(1))
    slack, quality = tune_cells(cells, sample, sample.queries, 0.99)
    assert quality.recall >= 0.99
    assert quality.share == 1.0
    near = clustered(200, 4)
    between = near + np.roll(near, 1, axis=0)
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    for queries in (near, between):
        true = np.argsort(-(queries @ vectors.T), axis=1)[:, :50]
        found = look(cells, vectors, queries, 50, slack)
        assert (
            np.mean([len(f.intersection(t)) / 50 for f, t in zip(found, true.tolist(), strict=True)]) >= 0.99
        )
        probe = Probe(cells, vectors, queries, 50, np.empty(0, dtype=np.intp), slack)
        assert probe.left.mean() < TRACKS / 4


def test_a_query_among_small_cells_looks_into_more_of_them() -> None:
    """Where the nearest cells hold fewer than wanted, a query goes on to the next ones, and not to all."""
    rng = np.random.default_rng(4)
    query = clustered(1, 6)
    near = query + 0.02 * rng.standard_normal((100, D))
    vectors = np.concatenate([near, clustered(TRACKS, 1) - query]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.concatenate([np.arange(100), 100 + np.arange(0, TRACKS + 1, 100)])
    centroids = np.stack([vectors[a:b].mean(axis=0) for a, b in pairwise(starts.tolist())])
    cells = SearchInvertedFile(
        centroids / np.linalg.norm(centroids, axis=1, keepdims=True), starts.astype(np.int64)
    )
    assert cells.first(50) < 50
    probe = Probe(cells, vectors, query, 50, np.empty(0, dtype=np.intp), 0.05)
    assert np.isfinite(probe.last[0])
    assert probe.left[0] < TRACKS / 10
    true = np.argsort(-(query @ vectors.T)[0])[:50]
    assert look(cells, vectors, query, 50, 0.05)[0] == set(true.tolist())


def test_a_sample_knows_its_nearest() -> None:
    """The rows of a sample are the nearest by brute force, best first, and half its queries are like a track."""
    vectors = clustered(5_000, 1)
    sample = QualitySample.of(vectors, np.random.default_rng(2))
    similar = sample.queries @ vectors.T
    assert np.allclose(sample.scores, -np.sort(-similar, axis=1)[:, :200], atol=1e-6)
    assert np.allclose(np.take_along_axis(similar, sample.rows, 1), sample.scores, atol=1e-6)
    assert sample.scores[:EASY, 0].min() > 0.9


def test_queries_are_trusted_down_to_where_the_recall_ends() -> None:
    """The threshold lies where the recall of queries next to each other in hardness falls below what is wanted."""
    last = np.linspace(1, 0, 100, dtype=np.float32)
    recalls = np.where(np.arange(100) < 60, 1.0, 0.5)
    quality = reliable_similarity(last, recalls, 0.99)
    assert quality.threshold == pytest.approx(float(last[59]), abs=0.02)
    assert quality.recall >= 0.99
    assert reliable_similarity(last, np.ones(100), 0.99).threshold == 0.0
    assert reliable_similarity(last, np.zeros(100), 0.99).threshold == np.inf


def build(vectors: Vectors, rows: Slots) -> BuiltIndex:
    """The index that a build's process hands over."""
    catalogue = GrowingRows.copy_of(vectors)
    return IndexBuild(catalogue, rows, 0.99).built()


@pytest.mark.parametrize("dense", [False, True])
def test_fewer_columns_are_chosen_where_few_directions_matter(dense: bool) -> None:
    """An index of embeddings along few directions has few columns, whose products bound similarity, of the rows it was built of."""
    vectors = clustered(TRACKS + 500, 1)
    everything = np.random.default_rng(2).permutation(TRACKS + 500)
    rows = np.arange(TRACKS, dtype=np.int32) if dense else np.sort(everything[:TRACKS]).astype(np.int32)
    index = build(vectors, rows)
    assert index.columns.matrix.shape[1] < D
    assert np.array_equal(np.sort(index.rows), rows)
    assert np.array_equal(index.vectors.vectors[:TRACKS], vectors[index.rows])
    assert index.report.quality.recall >= 0.99
    queries = clustered(20, 5)
    upper = index.columns.of(queries) @ index.columns.matrix[:TRACKS].T
    similar = queries.astype(np.float64) @ vectors[index.rows].T.astype(np.float64)
    assert (upper >= similar - index.columns.error).all()


def test_whole_vectors_are_kept_where_all_directions_matter() -> None:
    """Evenly spread vectors have no directions that would save anything; neither have few."""
    spread = np.random.default_rng(1).standard_normal((TRACKS, D)).astype(np.float32)
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    rows = np.arange(1, TRACKS, 2, dtype=np.int32)
    assert choose_directions(spread, np.arange(TRACKS, dtype=np.int32)) is None
    assert choose_directions(spread, rows[:100]) is None
    index = build(spread, rows)
    assert index.columns.matrix is index.vectors.vectors
    assert np.array_equal(index.vectors.vectors[: len(rows)], spread[index.rows])
    assert np.array_equal(np.sort(index.rows), rows)


def test_a_build_says_why_it_failed() -> None:
    """A row that the catalogue does not have, and a process that is killed: each is told, and leaves nothing open."""
    catalogue = GrowingRows.copy_of(clustered(100, 1))
    beyond = np.array([5, 100_000], dtype=np.int32)
    opened = []
    for _ in range(2):
        with pytest.raises(BuildFailedError, match="out of bounds"):
            IndexBuild(catalogue, beyond, 0.99).built()
        killed = IndexBuild(catalogue, beyond[:1], 0.99)
        killed._process.kill()
        with pytest.raises(BuildFailedError, match="has ended"):
            killed.built()
        opened.append(psutil.Process().num_fds())
    assert opened[1] == opened[0]

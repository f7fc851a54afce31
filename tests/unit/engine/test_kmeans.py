"""Spherical k-means."""

import numpy as np
import pytest

from streams.engine import kmeans
from streams.engine.types import Vectors

pytestmark = pytest.mark.unit


def points(count: int, dimension: int = 8, seed: int = 1) -> Vectors:
    """Unit vectors in three directions, with noise."""
    random = np.random.default_rng(seed)
    directions = np.eye(dimension)[random.integers(0, 3, count)]
    return kmeans.unit_length(
        (directions + 0.1 * random.standard_normal((count, dimension))).astype(np.float32)
    )


def test_centroids_find_the_directions_that_there_are() -> None:
    """Twelve clusters of three directions: each point is near to its centroid, none of which lies between directions."""
    found = points(600)
    *_, centroids = kmeans.centroid_rounds(found, 12, 6, np.random.default_rng(3))
    labels = kmeans.nearest_centroids(found, centroids)
    assert set(labels.tolist()) == set(range(12))
    assert (np.einsum("ij,ij->i", found, centroids[labels]) > 0.8).all()
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)


def test_a_round_brings_points_nearer_to_their_centroids() -> None:
    """The mean cosine to the nearest centroid never falls."""
    found = points(300, seed=4)
    means = [
        float((found @ centroids.T).max(axis=1).mean())
        for centroids in kmeans.centroid_rounds(found, 5, 6, np.random.default_rng(0))
    ]
    assert means == sorted(means)


def test_a_centroid_without_members_stays_where_it_is() -> None:
    """Of equal points one centroid gets all; the others do not become NaN."""
    found = np.repeat(points(1), 10, axis=0)
    *_, centroids = kmeans.centroid_rounds(found, 4, 3, np.random.default_rng(0))
    assert np.allclose(centroids, found[:4])


@pytest.mark.parametrize("count", [2, 3, 100])
def test_two_clusters_are_never_empty(count: int) -> None:
    """Points that are all alike are divided evenly; others by likeness."""
    for found in (np.repeat(points(1), count, axis=0), points(count)):
        labels, centroids = kmeans.two_clusters(found, 4, np.random.default_rng(2))
        assert set(labels.tolist()) == {0, 1}
        assert centroids.shape == (2, 8)


def test_members_stand_under_their_label() -> None:
    """Ascending, each once; a label that nobody has is empty."""
    members = kmeans.members_by_label(np.array([2, 0, 2, 0]), 4)
    assert [each.tolist() for each in members] == [[1, 3], [], [0, 2], []]


def test_points_that_cancel_out_have_a_direction_all_the_same() -> None:
    """It is the first one's."""
    found = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert kmeans.mean_direction(found).tolist() == [1, 0]
    assert kmeans.unit_length(np.zeros((1, 2), dtype=np.float32)).tolist() == [[0, 0]]

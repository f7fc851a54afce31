"""Spherical k-means: clusters of vectors by cosine, for the inverted files of engine and search.

I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data using clustering", Machine Learning 42,
2001.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from streams.engine.types import Vectors

Labels = npt.NDArray[np.intp]

# Vectors whose nearest centroid is looked for at a time: a product that the cache holds.
BLOCK = 4_096


def centroid_rounds(
    points: Vectors, count: int, rounds: int, random: np.random.Generator
) -> Iterator[Vectors]:
    """Centroids, float32 (count, d) of unit length, after each round; they are moved in place.

    Args:
        points: float32 (n, d), n at least `count`.
        count: How many clusters.
        rounds: How often centroids move to the mean of their members.
        random: Draws the points that centroids start from.
    """
    centroids = unit_length(points[random.choice(len(points), count, replace=False)])
    for _ in range(rounds):
        labels = nearest_centroids(points, centroids)
        order = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels, minlength=count)
        used = np.flatnonzero(sizes)
        # A centroid without members stays where it is.
        sums = np.add.reduceat(points[order], (np.cumsum(sizes) - sizes)[used], axis=0)
        centroids[used] = unit_length(sums)
        yield centroids


def two_clusters(points: Vectors, rounds: int, random: np.random.Generator) -> tuple[Labels, Vectors]:
    """Two clusters of at least two points: their labels, intp (n,), and their centroids, float32 (2, d).

    Neither is empty: points that are all alike are divided evenly.
    """
    *_, centroids = centroid_rounds(points, 2, rounds, random)
    labels = nearest_centroids(points, centroids)
    if labels.min() == labels.max():
        return np.arange(len(points)) % 2, np.repeat(centroids[labels[:1]], 2, axis=0)
    return labels, centroids


def nearest_centroids(points: Vectors, centroids: Vectors) -> Labels:
    """The number of the centroid most similar to each point, intp (n,)."""
    found = np.empty(len(points), dtype=np.intp)
    for start in range(0, len(points), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = np.argmax(points[part] @ centroids.T, axis=1)
    return found


def members_by_label(labels: Labels, count: int) -> list[Labels]:
    """For each label below `count` the places that have it, ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])


def mean_direction(points: Vectors) -> Vectors:
    """The mean of one or more points, scaled to unit length; the first one if they cancel out."""
    mean: Vectors = points.mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else points[0]


def unit_length(vectors: Vectors) -> Vectors:
    """Vectors scaled to unit length; those of length 0 stay so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled

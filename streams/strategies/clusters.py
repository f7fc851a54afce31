"""Deterministic spherical k-means."""

import numpy as np
import numpy.typing as npt

from streams.strategies.types import Vectors

# Lists take the first few of each cluster, which settle long before the last label does.
_ROUNDS = 10


def spherical_kmeans(vectors: Vectors, count: int, *, first: int = 0) -> npt.NDArray[np.intp]:
    """Clusters of unit vectors, float32 (n, d), by cosine: a label from 0 below `count` for each, intp (n,).

    It starts from `first`, then from the vector farthest from the centroids so far, the earliest of equals. It ends when no
    label changes, or after 10 rounds. There are fewer clusters if fewer vectors differ.
    """
    centroids = _farthest_first(vectors, count, first)
    labels: npt.NDArray[np.intp] = (vectors @ centroids.T).argmax(axis=1)
    for _ in range(_ROUNDS):
        centroids = _means(vectors, labels, centroids)
        moved = (vectors @ centroids.T).argmax(axis=1)
        if (moved == labels).all():
            break
        labels = moved
    return labels


def _farthest_first(vectors: Vectors, count: int, first: int) -> Vectors:
    chosen = [first]
    nearest = vectors @ vectors[first]
    while len(chosen) < count:
        farthest = int(nearest.argmin())
        if nearest[farthest] > 1 - 1e-5:  # all that is left repeats a centroid
            break
        chosen.append(farthest)
        nearest = np.maximum(nearest, vectors @ vectors[farthest])
    return vectors[chosen]


def _means(vectors: Vectors, labels: npt.NDArray[np.intp], centroids: Vectors) -> Vectors:
    members = np.equal.outer(np.arange(len(centroids)), labels).astype(np.float32)
    sums = members @ vectors
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # A cluster that lost its members, or whose members cancel out, keeps its centroid.
    whole = lengths[:, 0] > 1e-6
    moved = centroids.copy()
    moved[whole] = sums[whole] / lengths[whole]
    return moved

"""Lays a catalogue out on a plane from its neighbour lists, so that near tracks are near.

UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) on a neighbour graph that is known already: the lists. A layout
that continues another starts from it and is turned back onto it, so that the map stays where people know it.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# Neighbours that make a track's place, itself counted.
NEIGHBOURS = 15
_MIN_DIST, _SPREAD = 0.1, 1.0
# The side of the square that a first layout fills; UMAP's own.
EXTENT = 10.0
_SEED = 20_260_101
# Rounds of the optimisation and its first step: a layout that continues another is nearly there, and is to stay there.
_FIRST = (250, 1.0)
_AGAIN = (60, 0.1)


class PrincipalPlane:
    """The plane of the first two principal components, scaled to `EXTENT`: where a first layout begins.

    Args:
        sample: (m, d) vectors of unit length that the components are found from.
    """

    def __init__(self, sample: npt.NDArray[np.floating[Any]]) -> None:
        rows = sample.astype(np.float64)
        self._mean = rows.mean(axis=0)
        _, _, components = np.linalg.svd(rows - self._mean, full_matrices=False)
        self._axes = np.zeros((2, rows.shape[1]))
        self._axes[: len(components[:2])] = components[:2]
        reach = float(np.abs((rows - self._mean) @ self._axes.T).max(initial=0.0)) or 1.0
        self._axes *= EXTENT / 2 / reach

    def places(self, vectors: npt.NDArray[np.floating[Any]]) -> Floats:
        """(n, 2) places of (n, d) vectors."""
        return np.asarray((vectors - self._mean) @ self._axes.T, dtype=np.float32)


def lay_out(neighbours: Indices, similarities: Floats, start: Floats, *, again: bool) -> Floats:
    """Places for all tracks.

    Args:
        neighbours: (n, k) rows of each track's nearest, most similar first, -1 where a list is shorter.
        similarities: (n, k) cosine similarities to these.
        start: (n, 2) where each begins.
        again: Whether this continues a layout: fewer rounds are run.

    Returns:
        (n, 2) float32; the same for the same input.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies' own future versions
        from umap.layouts import optimize_layout_euclidean  # noqa: PLC0415 -- compiles for seconds
        from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample  # noqa: PLC0415

        near, distances = _with_themselves(neighbours, similarities)
        random = np.random.RandomState(_SEED)
        nothing = np.empty((len(near), 1), np.float32)  # looked at for its length alone
        graph, _, _ = fuzzy_simplicial_set(
            nothing, near.shape[1], random, "precomputed", knn_indices=near, knn_dists=distances
        )
        rounds, step = _AGAIN if again else _FIRST
        graph = graph.tocoo()
        # Edges so weak that they would never be drawn.
        drawn = graph.data >= graph.data.max() / rounds
        places = np.ascontiguousarray(start, dtype=np.float32).copy()
        optimize_layout_euclidean(
            places,
            places,
            graph.row[drawn],
            graph.col[drawn],
            rounds,
            len(places),
            make_epochs_per_sample(graph.data[drawn], rounds),
            *find_ab_params(_SPREAD, _MIN_DIST),
            random.randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64),
            initial_alpha=step,
        )
    return places


def _with_themselves(neighbours: Indices, similarities: Floats) -> tuple[Indices, Floats]:
    """The graph as UMAP takes it: each track is its own first neighbour, and distance is one less similarity."""
    count, width = len(neighbours), NEIGHBOURS - 1
    near = np.concatenate([np.arange(count, dtype=np.int64)[:, None], neighbours[:, :width]], axis=1)
    distances = np.concatenate([np.zeros((count, 1), np.float32), 1 - similarities[:, :width]], axis=1)
    missing = np.float32(np.inf)
    return near, np.where(near < 0, missing, np.maximum(distances, 0)).astype(np.float32)


def turned_onto(places: Floats, old: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """`places` moved, turned, mirrored and scaled so that the `known` rows lie on `old` as well as they can (Procrustes).

    Args:
        places: (n, 2).
        old: (n, 2), of the known rows.
        known: (n,) rows that had a place before.
    """
    if int(known.sum()) < 3:
        return places
    mine, theirs = places[known].astype(np.float64), old[known].astype(np.float64)
    mean_mine, mean_theirs = mine.mean(axis=0), theirs.mean(axis=0)
    left, strengths, right = np.linalg.svd((mine - mean_mine).T @ (theirs - mean_theirs))
    spread = float(((mine - mean_mine) ** 2).sum()) or 1.0
    turned = (places - mean_mine) @ (left @ right) * (float(strengths.sum()) / spread) + mean_theirs
    return np.asarray(turned, dtype=np.float32)

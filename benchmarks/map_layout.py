"""The map of the demo catalogue: how true it is to the vectors, beside PCA and UMAP on the raw vectors.

Trustworthiness and continuity (Venna and Kaski 2001) with 15 neighbours, on a sample of tracks: whether near tracks on the map
are near in truth, and whether near tracks in truth are near on the map.
"""

import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mess.demo import catalogue
from streams.engine.map_layout import NEIGHBOURS, PrincipalPlane, lay_out, turned_onto

SAMPLE = 4_000


def _lists(
    vectors: npt.NDArray[np.float32], width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    near = np.empty((len(vectors), width), np.int64)
    scores = np.empty((len(vectors), width), np.float32)
    for start in range(0, len(vectors), 1_000):
        product = vectors[start : start + 1_000] @ vectors.T
        product[np.arange(len(product)), np.arange(start, start + len(product))] = -2
        best = np.argpartition(-product, width, axis=1)[:, :width]
        order = np.argsort(-np.take_along_axis(product, best, axis=1), axis=1)
        near[start : start + 1_000] = np.take_along_axis(best, order, axis=1)
        scores[start : start + 1_000] = np.take_along_axis(product, near[start : start + 1_000], axis=1)
    return near, scores


def quality(size: int) -> None:
    """Print a row for each way to lay the demo out."""
    from sklearn.manifold import trustworthiness  # type: ignore[import-untyped]  # noqa: PLC0415
    from umap import UMAP  # noqa: PLC0415

    vectors = catalogue.load_demo_catalogue().embeddings
    near, scores = _lists(vectors, NEIGHBOURS - 1)
    sample = np.random.default_rng(1).choice(len(vectors), size, replace=False)
    plane = PrincipalPlane(vectors[::3]).places(vectors)

    def told(name: str, places: npt.NDArray[Any], seconds: float) -> None:
        trust = trustworthiness(vectors[sample], places[sample], n_neighbors=15)
        continuity = trustworthiness(places[sample], vectors[sample], n_neighbors=15)
        print(f"| {name} | {trust:.3f} | {continuity:.3f} | {seconds:.0f} |", flush=True)

    print("| layout | trustworthiness | continuity | processor seconds |\n|---|---|---|---|")
    told("PCA", plane, 0)
    began = time.process_time()
    ours = lay_out(near, scores, plane, again=False)
    told("from the neighbour lists", ours, time.process_time() - began)
    began = time.process_time()
    again = turned_onto(lay_out(near, scores, ours, again=True), ours, np.ones(len(ours), np.bool_))
    told("refreshed", again, time.process_time() - began)
    moved = np.linalg.norm(again - ours, axis=1) / np.ptp(ours, axis=0).max()
    print(
        f"a refresh moves a track by {np.median(moved):.2%} of the map's side at the median, {np.quantile(moved, 0.99):.2%} at most for 99 of 100"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        raw = UMAP(metric="cosine", random_state=1).fit_transform(vectors)
        told("UMAP on the raw vectors", raw, time.process_time() - began)


def main(*, quick: bool = False) -> None:
    """Print how true the layouts are."""
    quality(1_500 if quick else SAMPLE)


if __name__ == "__main__":
    main()

"""pynndescent itself, asked as the engine asks it."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from streams.engine.descent import GRAPH, VECTORS, compute_graph
from tests.unit.engine.test_exact import random_catalogue

# It compiles for half a minute of processor time in every process.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_the_graph_has_nearly_all_neighbours(tmp_path: Path) -> None:
    """Of 2,500 tracks: rows, each with itself, and nearly all of the ten nearest."""
    vectors = np.array(list(random_catalogue(2_500, 16).values()))
    np.save(tmp_path / VECTORS, vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compute_graph(tmp_path, 10)
    graph = np.load(tmp_path / GRAPH)
    assert graph.shape == (2_500, 11)
    assert graph.dtype == np.int32
    true = np.argsort(-(vectors @ vectors.T), axis=1)[:, :11]
    found = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(graph, true, strict=True)]
    assert np.mean(found) > 0.95 * 11

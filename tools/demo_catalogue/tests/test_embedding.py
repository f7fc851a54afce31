"""Standardising, weighting and storing vectors."""

import numpy as np
import pytest

from mess.demo import catalogue
from tools.demo_catalogue.embedding import CLIP, WEIGHTS, column_weights, embed, quantise, standardise
from tools.demo_catalogue.features import BLOCKS, DIMENSION

pytestmark = pytest.mark.unit

EQUAL = {block.name: 1.0 for block in BLOCKS}


def random_features(rows: int = 50) -> np.ndarray:
    """Features of works that never were."""
    return np.random.default_rng(3).normal(5, 3, (rows, DIMENSION))


def test_standardised_columns_have_mean_zero_and_deviation_one() -> None:
    """What the features' units were no longer matters."""
    columns = standardise(random_features())
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(columns.std(axis=0), 1, atol=0.1)


def test_what_does_not_apply_counts_as_the_mean() -> None:
    """NaN becomes 0 after standardising and leaves the column's mean alone."""
    features = random_features()
    features[7, 3] = np.nan
    columns = standardise(features)
    assert columns[7, 3] == 0
    np.testing.assert_allclose(np.delete(columns[:, 3], 7).mean(), 0, atol=0.05)


def test_an_outlier_is_clipped() -> None:
    """One absurd value reaches the limit and no further."""
    features = random_features(500)
    features[0, 0] = 1e9
    assert standardise(features)[0, 0] == CLIP


def test_blocks_of_equal_weight_have_equal_parts() -> None:
    """Whatever its size, a block's squared weights sum to the square of its own weight."""
    weights = column_weights(EQUAL | {"mode": 0.5})
    start = 0
    for block in BLOCKS:
        part = weights[start : start + block.size]
        assert (part**2).sum() == pytest.approx(0.25 if block.name == "mode" else 1.0)
        start += block.size


def test_embedded_rows_have_unit_length() -> None:
    """Cosine is then a plain product."""
    np.testing.assert_allclose(np.linalg.norm(embed(random_features(), EQUAL), axis=1), 1)


def test_a_row_that_is_all_mean_is_refused() -> None:
    """A zero vector has no direction and may not get into the catalogue."""
    features = random_features()
    features[0] = np.nan
    with pytest.raises(ValueError, match="1 works would have a zero vector"):
        embed(features, EQUAL)


def test_quantised_vectors_keep_their_direction() -> None:
    """A byte a number costs less than a thousandth of the cosine."""
    vectors = embed(random_features(), EQUAL)
    stored = quantise(vectors)
    decoded = stored.decode()
    assert stored.codes.dtype == np.int8
    assert np.abs(decoded - vectors).max() <= stored.scale.max() / 2 + 1e-7
    cosine = (decoded * vectors).sum(axis=1) / np.linalg.norm(decoded, axis=1)
    assert cosine.min() > 0.999


def test_its_columns_are_those_of_the_code() -> None:
    """The committed data was built with the blocks and weights that the code has now."""
    stored = {block.name: (block.size, block.weight) for block in catalogue.load_demo_catalogue().blocks}
    assert stored == {block.name: (block.size, WEIGHTS[block.name]) for block in BLOCKS}

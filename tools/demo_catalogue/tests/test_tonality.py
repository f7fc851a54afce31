"""Key estimation."""

import numpy as np
import pytest

from tools.demo_catalogue.tonality import MAJOR, estimate

pytestmark = pytest.mark.unit


def profile(weights: dict[int, float]) -> np.ndarray:
    """A pitch-class profile from the classes that sound."""
    return np.array([weights.get(pitch, 0.0) for pitch in range(12)])


@pytest.mark.parametrize("tonic", range(12))
def test_the_ratings_themselves_are_recognised_on_every_tonic(tonic: int) -> None:
    """The major ratings rotated to a tonic give that tonic, major, with a correlation of 1."""
    found = estimate(np.roll(MAJOR, tonic))
    assert (found.tonic, found.mode) == (tonic, "major")
    assert found.major == pytest.approx(1.0)


def test_a_minor_tune_is_minor() -> None:
    """A profile on A C E with a raised seventh is A minor."""
    found = estimate(profile({9: 5, 0: 3, 4: 4, 11: 1, 2: 2, 5: 1, 8: 1}))
    assert found.name == "A minor"


def test_a_known_tonic_leaves_only_the_mode_to_estimate() -> None:
    """White keys on a given D are D minor, whatever tonic they would suggest."""
    white = profile({0: 1, 2: 2, 4: 1, 5: 1.5, 7: 1, 9: 2, 11: 0.5})
    assert estimate(white, tonic=2).name == "D minor"


def test_a_flat_profile_has_no_key_and_no_error() -> None:
    """All pitch classes alike: every correlation is 0."""
    found = estimate(np.full(12, 1 / 12))
    assert found.major == found.minor == found.clarity == 0.0

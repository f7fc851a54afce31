"""Log-mel frames against librosa's, which computed them once."""

from pathlib import Path

import numpy as np
import pytest

from streams.producers.audio.mel import BANDS, FRAME, log_mel
from tests.unit.producers.audio.clips import clips

pytestmark = pytest.mark.unit

REFERENCE = Path(__file__).parent / "reference.npz"


@pytest.mark.parametrize("name", clips())
def test_frames_are_those_that_the_network_has_learned(name: str) -> None:
    """Every sixtieth frame of each clip, to 1e-5."""
    samples = np.pad(clips()[name], FRAME // 2, mode="reflect")
    frames = log_mel(samples)
    assert (frames.shape, frames.dtype) == ((626, BANDS), np.float32)
    with np.load(REFERENCE) as reference:
        assert np.abs(frames[::60] - reference[f"{name}_frames"]).max() < 1e-5


def test_silence_is_zero() -> None:
    """The logarithm is of one more than the energy."""
    assert not log_mel(np.zeros(5 * FRAME, dtype=np.float32)).any()

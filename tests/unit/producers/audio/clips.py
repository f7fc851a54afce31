"""Three clips of ten seconds that are the same everywhere: a tune, a beat, a glide in noise."""

import numpy as np
import numpy.typing as npt

RATE = 16_000
SECONDS = 10


def clips() -> dict[str, npt.NDArray[np.float32]]:
    """The clips by name, float32 (160000,), within -1 and 1."""
    at = np.arange(SECONDS * RATE) / RATE
    step = (at * 4).astype(int)
    notes = np.array([60, 64, 67, 72, 71, 67, 62, 65])[step % 8]
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((notes - 69) / 12)) / RATE
    tune = sum(np.sin(k * phase) / k**1.5 for k in range(1, 7)) * np.exp(-6 * (at * 4 % 1)) * 0.3
    noise = np.random.default_rng(7).uniform(-1, 1, len(at))
    beat = 0.5 * noise * np.exp(-40 * (at * 8 % 1)) + 0.6 * np.sin(2 * np.pi * 60 * at) * np.exp(
        -10 * (at * 2 % 1)
    )
    glide = 0.4 * np.sin(2 * np.pi * (100 * at + 190 * at**2)) + 0.02 * noise
    return {
        name: made.astype(np.float32) for name, made in (("tune", tune), ("beat", beat), ("glide", glide))
    }

"""Log-mel spectrograms as the network has learned them: 16 kHz, frames of 512 samples every 256, 96 bands.

Filters are Slaney's (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above, each of unit area.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

RATE: Final = 16_000
FRAME: Final = 512
HOP: Final = 256
BANDS: Final = 96

_LINEAR_HZ: Final = 200 / 3
_KNEE_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27


def log_mel(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Frames of log10(1 + 10000 x), x the energy in each band.

    Args:
        samples: float32 (s,), at least `FRAME` of them.

    Returns:
        float32 (1 + (s - FRAME) // HOP, BANDS).
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _filters()
    logarithm: npt.NDArray[np.float32] = np.log10(1 + np.float32(10_000) * energy)
    return logarithm


@lru_cache(maxsize=1)
def _window() -> npt.NDArray[np.float32]:
    """A periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)


@lru_cache(maxsize=1)
def _filters() -> npt.NDArray[np.float32]:
    """Triangles, float32 (FRAME / 2 + 1, BANDS)."""
    edges = _hertz(np.linspace(0, _mel(RATE / 2), BANDS + 2))
    bins = np.linspace(0, RATE / 2, FRAME // 2 + 1)
    ramps = edges[:, None] - bins
    widths = np.diff(edges)
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return np.ascontiguousarray(triangles.T, dtype=np.float32)


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR_HZ
    return float(_KNEE_HZ / _LINEAR_HZ + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    knee = _KNEE_HZ / _LINEAR_HZ
    return np.where(mels < knee, mels * _LINEAR_HZ, _KNEE_HZ * np.exp((mels - knee) * _LOG_STEP))

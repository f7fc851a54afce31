"""Finds the tonic of a pitch-class profile by correlation with the Krumhansl-Kessler probe-tone ratings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Krumhansl & Kessler (1982), as used by the Krumhansl-Schmuckler algorithm (Krumhansl 1990, chapter 4).
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
MAJOR_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")


@dataclass(frozen=True)
class Tonality:
    """The key estimated for a profile.

    Attributes:
        tonic: Pitch class, 0 for C.
        mode: "major" or "minor".
        major, minor: Correlation with the major and the minor ratings on this tonic.
        clarity: How far the best correlation stands above that of the best other tonic.
    """

    tonic: int
    mode: str
    major: float
    minor: float
    clarity: float

    @property
    def name(self) -> str:
        """The key as written, as "F# minor"."""
        return f"{(MAJOR_NAMES if self.mode == 'major' else MINOR_NAMES)[self.tonic]} {self.mode}"


def _templates() -> NDArray[np.float64]:
    rows = [np.roll(ratings, tonic) for ratings in (MAJOR, MINOR) for tonic in range(12)]
    centred = np.asarray(rows) - np.mean(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return unit


_TEMPLATES = _templates()


def estimate(profile: NDArray[np.float64], tonic: int | None = None) -> Tonality:
    """Estimate the key of a pitch-class profile.

    Args:
        profile: Shape (12,), the weight of each pitch class from C.
        tonic: If the tonic is known, only the mode is estimated.
    """
    centred = profile - profile.mean()
    norm = float(np.linalg.norm(centred))
    # A flat profile favours no key: every correlation is 0 and C major is as good as any.
    scores = (_TEMPLATES @ (centred / norm if norm > 0 else centred)).reshape(2, 12)
    best = scores.max(axis=0)
    chosen = int(best.argmax()) if tonic is None else tonic
    others = np.delete(best, chosen)
    major, minor = float(scores[0, chosen]), float(scores[1, chosen])
    mode = "major" if major >= minor else "minor"
    return Tonality(chosen, mode, major, minor, float(best[chosen] - others.max()))

"""Popularity of tracks, and statistics of their lists, by key."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.strategies.types import Floats, Keys, Mask


def _none() -> Any:
    return np.empty(0)


def _no_keys() -> Keys:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Popularity:
    """The popularity of every track at one moment.

    Attributes:
        version: Of the interactions that it was computed from.
        keys: int64 (n,), ascending.
        percentile: float64 (n,); empty where nobody has listened to anything.
        probability: float64 (n,); likewise.
        heard: bool (n,), whether somebody has listened to the track; likewise.
        newcomer: Percentile and probability of a track that is not among the keys: of any that nobody has listened to.
    """

    version: int = 0
    keys: Keys = field(default_factory=_no_keys)
    percentile: Floats = field(default_factory=_none)
    probability: Floats = field(default_factory=_none)
    heard: Mask = field(default_factory=_none)
    newcomer: tuple[float, float] = (0.5, 1.0)

    def of(self, keys: Keys) -> tuple[Floats | None, Floats | None, Mask | None]:
        """The popularity of these tracks; None if there are no interactions at all.

        Returns:
            Percentile and probability, float64 (m,) each, and whether somebody has listened, bool (m,).
        """
        if not len(self.percentile):
            return None, None, None
        place, known = _places(self.keys, keys)
        return (
            np.where(known, self.percentile[place], self.newcomer[0]),
            np.where(known, self.probability[place], self.newcomer[1]),
            known & self.heard[place],
        )


@dataclass(frozen=True, eq=False, slots=True)
class ListFacts:
    """Statistics of the stored lists at one moment.

    Attributes:
        held: int64 (n,), ascending, the tracks that some list holds.
        share: float64 (n,), the share of all lists that holds each.
        listed: int64 (m,), ascending, the tracks that have a list.
        density: float64 (m,), the mean similarity of each to the first of its own list.
    """

    held: Keys = field(default_factory=_no_keys)
    share: Floats = field(default_factory=_none)
    listed: Keys = field(default_factory=_no_keys)
    density: Floats = field(default_factory=_none)

    def hubs(self, share: float) -> Keys:
        """The tracks that more than this share of all lists hold, int64."""
        return self.held[self.share > share]

    def densities(self, keys: Keys) -> Floats | None:
        """The density of each track, float64; of those without a list the mean of all. None where there is no list."""
        if not len(self.listed):
            return None
        place, known = _places(self.listed, keys)
        return np.where(known, self.density[place], self.density.mean())


def _places(known: Keys, keys: Keys) -> tuple[npt.NDArray[np.intp], Mask]:
    """Where keys are in others, which ascend and are some, and whether they are there at all."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return place, known[place] == keys

"""Who listens to what: simulated from a stated model, and what the popularity arithmetic makes of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.popularity import StoredPopularity as StoredListening
from streams.strategies import popularity
from streams.strategies.popularity import Tallies
from streams.strategies.types import Floats, Mask

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class ListeningModel:
    """Seeded listening.

    Tracks are dealt ranks at random, so that popularity has nothing to do with the music, and a track of rank r draws
    an interaction with probability proportional to r^-exponent (G. K. Zipf, 1949; of music: O. Celma, "Music
    recommendation and discovery in the long tail", PhD thesis, Universitat Pompeu Fabra, 2008). An interaction is a
    play, a like or a skip with the given shares, at a time spread evenly over the last `days`.

    Attributes:
        random_seed: Of ranks and draws.
        per_track: Interactions by tracks.
        exponent: Of Zipf's law.
        shares: Of plays, likes and skips.
        days: How far back.
    """

    random_seed: int = 0
    per_track: float = 20.0
    exponent: float = 1.0
    shares: tuple[float, float, float] = (0.85, 0.05, 0.10)
    days: float = 90.0

    def describe(self, count: int) -> str:
        """The model in a sentence, for `count` tracks."""
        plays, likes, skips = (f"{share:.0%}" for share in self.shares)
        return (
            f"simulated: {int(self.per_track * count):,} interactions ({plays} plays, {likes} likes, {skips} skips) over "
            f"{self.days:g} days, Zipf exponent {self.exponent:g}, ranks dealt at random with seed {self.random_seed}"
        )


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedListening:
    """What is known of n tracks' popularity.

    Attributes:
        source: Where it comes from, for people.
        percentile: float64 (n,), share of the catalogue that is less popular.
        probability: float64 (n,), share of all listening, adds up to 1.
        heard: bool (n,), whether anybody has listened to the track.
    """

    source: str
    percentile: Floats
    probability: Floats
    heard: Mask


def simulate_listening(count: int, model: ListeningModel, moment: float = 0.0) -> SimulatedListening:
    """Interactions drawn from the model, tallied and smoothed as real ones are; every track was always there."""
    random = np.random.default_rng([model.random_seed, 1])
    ranks = random.permutation(count) + 1
    chance = ranks.astype(np.float64) ** -model.exponent
    drawn = int(model.per_track * count)
    keys = random.choice(count, size=drawn, p=chance / chance.sum()).astype(np.int64)
    kinds = random.choice(["play", "like", "skip"], size=drawn, p=model.shares)
    times = moment - random.uniform(0, model.days * DAY, size=drawn)
    tallies = popularity.tally_interactions(keys, kinds.tolist(), times, moment)
    return of_tallies(tallies, count, model.describe(count))


def of_tallies(tallies: Tallies, count: int, source: str) -> SimulatedListening:
    """Popularity of tracks 0 to count - 1 from their tallies; those without one were never listened to."""
    values, heard = np.zeros(count), np.zeros(count, dtype=np.bool_)
    values[tallies.keys], heard[tallies.keys] = tallies.values, True
    return _of_values(values, np.full(count, np.inf), heard, source)


def listening_of_store(stored: StoredListening, keys: npt.NDArray[np.int64]) -> SimulatedListening | None:
    """What a store knows of the popularity of tracks, int64 (n,), at the latest moment that it knows of.

    A track that it does not know was never listened to. None where nothing was.
    """
    heard = stored.references > 0
    if not heard.any():
        return None
    moment = float(stored.references.max())
    values = stored.values * heard * popularity.decay_factor(moment - stored.references)
    ages = np.maximum(moment - stored.created_at, 0.0)
    place = np.minimum(np.searchsorted(stored.keys, keys), len(stored.keys) - 1)
    known = stored.keys[place] == keys
    source = f"the store's: {int(heard.sum()):,} of its tracks have been listened to"
    return _of_values(
        np.where(known, values[place], 0.0), np.where(known, ages[place], 0.0), known & heard[place], source
    )


def _of_values(values: Floats, ages: Floats, heard: Mask, source: str) -> SimulatedListening:
    return SimulatedListening(
        source, *popularity.popularity_standing(values, popularity.exposure_seconds(ages)), heard
    )

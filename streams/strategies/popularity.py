"""Popularity: interactions that decay with time, smoothed by the catalogue's mean.

An interaction of weight w at time s counts w * 2^(-(t - s) / h) at time t, h being the half-life. Sums of these are
kept at a reference time. A sum moves to a later reference by one factor, and sums at one reference add up, so
increments merge in any order; an event that comes late counts what it would have counted in time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.strategies.types import Floats, Keys

WEIGHTS: Final[Mapping[str, float]] = MappingProxyType({"play": 1.0, "like": 3.0, "skip": -1.0})
HALF_LIFE: Final = 30 * 86_400.0
# A track is credited with so many seconds of listening at the catalogue's mean rate.
PRIOR_STRENGTH: Final = 7 * 86_400.0


@dataclass(frozen=True, eq=False, slots=True)
class Tallies:
    """Decayed interactions of m tracks.

    Attributes:
        keys: int64 (m,), ascending, each once.
        values: float64 (m,), sums of decayed weights; negative where skips prevail.
        counts: float64 (m,), sums of decay factors: how many interactions, the old ones counting less.
        reference: The time that they are decayed to, seconds since the epoch.
    """

    keys: Keys
    values: Floats
    counts: Floats
    reference: float


def decay_factor(elapsed: Floats, half_life: float = HALF_LIFE) -> Floats:
    """2^(-elapsed / half_life), elapsed in seconds, float64 (n,); what lies in the future counts as now.

    Exponential decay of a stream: G. Cormode, V. Shkapenyuk, D. Srivastava and B. Xu, "Forward decay", ICDE 2009.

    Raises:
        ValueError: the half-life is not above 0.
    """
    if not half_life > 0:
        raise ValueError(f"half_life must be above 0, not {half_life}")
    return np.asarray(np.exp2(-np.maximum(elapsed, 0.0) / half_life), dtype=np.float64)


def tally_interactions(
    keys: Keys,
    kinds: Sequence[str],
    times: Floats,
    reference: float,
    *,
    weights: Mapping[str, float] = WEIGHTS,
    half_life: float = HALF_LIFE,
) -> Tallies:
    """Sum up a batch of interactions, in any order.

    Args:
        keys: int64 (n,), the tracks.
        kinds: n kinds, `play`, `like` or `skip`.
        times: float64 (n,), when they happened, seconds since the epoch; later than `reference` counts as then.
        reference: What to decay to.
        weights: What each kind counts.
        half_life: Seconds after which an interaction counts half.

    Raises:
        KeyError: a kind without a weight.
    """
    found, place = np.unique(keys, return_inverse=True)
    factors = decay_factor(reference - times, half_life)
    worth = np.array([weights[kind] for kind in kinds], dtype=np.float64)
    return Tallies(
        found,
        _summed(place, worth * factors, len(found)),
        _summed(place, factors, len(found)),
        reference,
    )


def _summed(place: npt.NDArray[np.intp], amounts: Floats, count: int) -> Floats:
    return np.asarray(np.bincount(place, amounts, minlength=count), dtype=np.float64)


def exposure_seconds(ages: Floats, half_life: float = HALF_LIFE) -> Floats:
    """For how long a track could be listened to, in decayed seconds: float64 (n,).

    The integral of the decay over its age: (1 - 2^(-age / h)) * h / ln 2. A new track has 0, one that always existed has
    h / ln 2. `ages` in seconds; infinity if unknown.
    """
    return np.asarray((1.0 - decay_factor(ages, half_life)) * _whole(half_life), dtype=np.float64)


def _whole(half_life: float) -> float:
    return half_life / math.log(2.0)


def smoothed_rate(
    values: Floats,
    exposures: Floats,
    *,
    prior_mean: float,
    prior_strength: float = PRIOR_STRENGTH,
    half_life: float = HALF_LIFE,
) -> Floats:
    """A track's rate, weighted interactions a second, drawn to the catalogue's: float64 (n,).

    rate = strength * mean / (strength + whole) + value / (strength + exposure), where whole = h / ln 2 is the exposure of
    what was always there. With exposure = whole this is the posterior mean of the Gamma-Poisson model, whose prior has
    the given mean and is worth `prior_strength` seconds of exposure. Of a younger track the prior's part is the same
    and not more: when a track came says nothing of whether anybody cares for it. So all that nobody has listened to
    have one rate, to the bit; any play lifts a track above it, skips alone take it below (even below 0), and one early
    play makes no hit.
    D. Clayton and J. Kaldor, "Empirical Bayes estimates of age-standardized relative risks", Biometrics 43, 1987.

    Raises:
        ValueError: a prior mean below 0, or a strength that is not above 0.
    """
    if not (prior_mean >= 0 and prior_strength > 0):
        raise ValueError("the prior's mean must be at least 0 and its strength above 0")
    baseline = prior_strength * prior_mean / (prior_strength + _whole(half_life))
    return np.asarray(baseline + values / (prior_strength + exposures), dtype=np.float64)


def mean_rate(values: Floats, exposures: Floats) -> float:
    """The catalogue's rate, weighted interactions a second: the prior mean that the data suggest (empirical Bayes)."""
    total = float(exposures.sum())
    return float(np.maximum(values, 0.0).sum()) / total if total > 0 else 0.0


def listening_shares(rates: Floats) -> Floats:
    """Each track's share of all listening, above 0: float64 (n,), over the whole catalogue it adds up to 1.

    From smoothed rates; where all are 0 every track has the same share. One that is 0 among others is given the
    smallest share that there is, so that its self-information is finite.
    """
    positive = rates[rates > 0]
    if not len(positive):
        return np.full(len(rates), 1.0 / max(len(rates), 1))
    filled = np.maximum(rates, positive.min())
    return np.asarray(filled / filled.sum(), dtype=np.float64)


def rate_percentiles(values: Floats) -> Floats:
    """Share of the others that are below each value, equal ones counting half: float64 (n,), 0 to 1.

    The mid-rank, so that a catalogue that nobody has listened to yet stands at 1/2 throughout.
    """
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return np.asarray((below + (upto - below - 1) / 2) / (len(values) - 1), dtype=np.float64)


def popularity_standing(
    values: Floats, exposures: Floats, half_life: float = HALF_LIFE
) -> tuple[Floats, Floats]:
    """Percentile and probability, float64 (n,) each, of every track of a catalogue, by smoothed rates.

    Skips lower the percentile, not the probability: what was skipped was heard as little as what nobody has met.

    Args:
        values: float64 (n,), sums of decayed weights.
        exposures: float64 (n,), see `exposure_seconds`.
        half_life: Of an interaction, seconds.
    """
    # The prior's part is the same for all: it changes no rank, but what is far below it would be rounded to a tie.
    ranked = smoothed_rate(values, exposures, prior_mean=0.0, half_life=half_life)
    rates = smoothed_rate(
        np.maximum(values, 0.0), exposures, prior_mean=mean_rate(values, exposures), half_life=half_life
    )
    return rate_percentiles(ranked), listening_shares(rates)

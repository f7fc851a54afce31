"""How sure a mean over sampled seeds is."""

from dataclasses import dataclass

import numpy as np

from streams.strategies.types import Floats

DRAWS = 1000
_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % confidence interval; all NaN where nothing was measured."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


def resampled_means(values: Floats, random: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Means of each column over seeds drawn with replacement, float64 (draws, q).

    Every column sees the same draws, so that a difference of two columns is a paired one. B. Efron, "Bootstrap
    methods: another look at the jackknife", Annals of Statistics 7(1), 1979.

    Args:
        values: float64 (m, q), a row a seed; NaN where a seed has nothing to say.
        random: Draws the seeds.
        draws: How often.
    """
    held = ~np.isnan(values)
    filled, counted = np.where(held, values, 0.0), held.astype(np.float64)
    m = len(values)
    made = np.empty((draws, values.shape[1]))
    for start in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - start)
        drawn = random.integers(0, m, size=(size, m)) + m * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * m).reshape(size, m).astype(np.float64)
        with np.errstate(invalid="ignore"):
            made[start : start + size] = (weights @ filled) / (weights @ counted)
    return made


def percentile_interval(mean: float, means: Floats) -> Interval:
    """The percentile interval of resampled means, (draws,), around the mean itself."""
    kept = means[~np.isnan(means)]
    if not len(kept) or np.isnan(mean):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(kept, [2.5, 97.5])
    return Interval(mean, float(low), float(high))

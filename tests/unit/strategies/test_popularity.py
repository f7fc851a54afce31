"""Interactions that fade: decay, smoothing, ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.strategies import popularity
from streams.strategies.popularity import Tallies, tally_interactions
from tests.support.examples import examples

pytestmark = pytest.mark.unit

H = 100.0


def of(keys: list[int], kinds: list[str], times: list[float], reference: float) -> Tallies:
    """A tally with a half-life of 100 seconds."""
    return tally_interactions(
        np.array(keys, dtype=np.int64), kinds, np.array(times, dtype=np.float64), reference, half_life=H
    )


def test_tally_by_hand() -> None:
    """A play now, a like one half-life ago and a skip two half-lives ago: 1 + 3/2 - 1/4."""
    made = of([7, 7, 7, 3], ["play", "like", "skip", "play"], [200, 100, 0, 100], 200)
    assert made.keys.tolist() == [3, 7]
    assert made.values == pytest.approx([0.5, 1 + 1.5 - 0.25])
    assert made.counts == pytest.approx([0.5, 1.75])


def test_an_event_from_the_future_counts_as_now() -> None:
    """A clock that is ahead gains nothing."""
    assert of([1], ["play"], [500], 200).values.tolist() == [1.0]


def test_no_interactions_are_no_tallies() -> None:
    """An empty batch has no tracks."""
    assert len(of([], [], [], 50).keys) == 0


def test_an_unknown_kind_is_an_error() -> None:
    """What has no weight is not silently nothing."""
    with pytest.raises(KeyError):
        of([1], ["share"], [0], 0)


def test_a_half_life_of_nothing_is_refused() -> None:
    """Nothing decays by a half-life of 0."""
    with pytest.raises(ValueError, match="half_life"):
        popularity.decay_factor(np.array([1.0]), 0.0)


def test_exposure_by_hand() -> None:
    """The integral of the decay: none at first, half of the whole after one half-life, h / ln 2 in the end."""
    whole = H / np.log(2)
    assert popularity.exposure_seconds(np.array([0.0, H, np.inf]), H) == pytest.approx([0, whole / 2, whole])
    seconds = np.arange(0, 3 * H, 0.01)
    assert popularity.exposure_seconds(np.array([3 * H]), H)[0] == pytest.approx(
        np.exp2(-seconds / H).sum() * 0.01, rel=1e-3
    )


def test_smoothed_rate_by_hand() -> None:
    """Without listening all stand alike, whenever they came; plays raise, by exposure, and skips lower."""
    made = popularity.smoothed_rate(
        np.array([0.0, 0.0, 30.0, 30.0, -5.0]),
        np.array([0.0, 90.0, 90.0, 0.0, 90.0]),
        prior_mean=0.2,
        prior_strength=10.0,
        half_life=90.0 * np.log(2),
    )
    assert made == pytest.approx([0.02, 0.02, 0.02 + 0.3, 0.02 + 3, 0.02 - 0.05])
    assert made[0] == made[1]
    with pytest.raises(ValueError, match="prior"):
        popularity.smoothed_rate(np.zeros(1), np.zeros(1), prior_mean=-1)


def test_one_early_play_makes_no_hit() -> None:
    """A minute old with one play ranks below a month of a thousand plays, though its raw rate is far higher."""
    values, ages = np.array([1.0, 1000.0]), np.array([60.0, 30 * 86_400.0])
    exposures = popularity.exposure_seconds(ages)
    assert values[0] / exposures[0] > values[1] / exposures[1]
    mean = popularity.mean_rate(values, exposures)
    rates = popularity.smoothed_rate(values, exposures, prior_mean=mean / 2)
    assert rates[0] < rates[1]


def test_probability_adds_up_and_is_never_zero() -> None:
    """Shares of all listening; a track with rate 0 has the smallest share there is."""
    made = popularity.listening_shares(np.array([3.0, 1.0, 0.0]))
    assert made.sum() == pytest.approx(1)
    assert made == pytest.approx([0.6, 0.2, 0.2])
    assert popularity.listening_shares(np.zeros(4)).tolist() == [0.25] * 4
    assert len(popularity.listening_shares(np.zeros(0))) == 0


def test_percentile_is_the_mid_rank() -> None:
    """Equal values stand in the middle of their range."""
    assert popularity.rate_percentiles(np.array([5.0, 1.0, 3.0])).tolist() == [1.0, 0.0, 0.5]
    assert popularity.rate_percentiles(np.array([1.0, 1.0, 1.0, 9.0])) == pytest.approx([1 / 3] * 3 + [1.0])
    assert popularity.rate_percentiles(np.zeros(9)) == pytest.approx([0.5] * 9)
    assert popularity.rate_percentiles(np.zeros(1)).tolist() == [0.5]


def test_more_interactions_raise_the_percentile() -> None:
    """Plays move a track up, skips move it down."""
    exposures = np.full(6, 1000.0)

    def standing(value: float) -> float:
        rates = popularity.smoothed_rate(np.array([value, -0.5, 1, 2, 3, 4]), exposures, prior_mean=0.001)
        return float(popularity.rate_percentiles(rates)[0])

    assert standing(-1) < standing(0) < standing(1.5) < standing(2.5) < standing(9)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([-4.0, -1e-6, 0.0, 1e-6, 1.0, 50.0]), st.floats(0, 4e8)),
        min_size=2,
        max_size=30,
    )
)
def test_only_listening_tells_tracks_apart(tracks: list[tuple[float, float]]) -> None:
    """Unheard tracks are tied whenever they came; any play stands above them, skips alone below, and none is less probable."""
    values, ages = (np.array(column) for column in zip(*tracks, strict=True))
    percentile, probability = popularity.popularity_standing(values, popularity.exposure_seconds(ages))
    unheard, played, skipped = values == 0, values > 0, values < 0
    for standing in (percentile, probability):
        assert len(set(standing[unheard].tolist())) <= 1
    if unheard.any():
        assert (percentile[played] > percentile[unheard][0]).all()
        assert (percentile[skipped] < percentile[unheard][0]).all()
        assert (probability >= probability[unheard][0]).all()
    assert probability.sum() == pytest.approx(1)

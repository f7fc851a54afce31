"""What `auto` chooses, and the reason it gives."""

from typing import Any

import numpy as np
import pytest

from streams.strategies import Candidates, Query, Seed, select_list
from tests.unit.strategies.helpers import candidates, unit

pytestmark = pytest.mark.unit


def pool(
    *, heard: float = 0.0, alike: bool = False, composer: str | None = None, vectors: bool = True
) -> Candidates:
    """Forty candidates, of which a share was listened to."""
    rng = np.random.default_rng(8)
    found = unit(rng.normal(size=(40, 8)) + (np.array([30] + [0] * 7) if alike else 0))
    listened = np.arange(40) < heard * 40
    # What came earlier or later has another share of nothing: that is no listening.
    share = np.where(listened, 0.1, 0.001 + 1e-9 * np.arange(40))
    return candidates(
        np.linspace(0.9, 0.5, 40),
        [{"composer": composer or f"c{i}"} for i in range(40)],
        vectors=found if vectors else None,
        probability=share,
        percentile=share * 5,
        heard=listened,
    )


def chosen(candidates_: Candidates, **asked: Any) -> tuple[str, str | None, str]:
    """Strategy, mode and reason."""
    made = select_list(candidates_, Query(strategy="auto", **asked))
    assert made.choice.reason is not None
    return made.choice.strategy, made.choice.mode, made.choice.reason


def test_similarity_when_nothing_speaks_for_another() -> None:
    """The plain answer is the last resort, and says so."""
    assert chosen(pool()) == ("similarity", None, "nothing is known that speaks for another strategy")


@pytest.mark.parametrize(
    ("goal", "found"),
    [
        ("surprise", ("diverse", "serendipity")),
        ("explore", ("random", None)),
        ("balanced", ("hybrid", None)),
        ("contrast", ("diverse", "contrast")),
    ],
)
def test_the_listeners_goal_comes_first(goal: str, found: tuple[str, str | None]) -> None:
    """A stated goal beats skips and data."""
    made = chosen(pool(heard=0.5), user_context={"goal": goal, "recent_skips": 9})
    assert made == (*found, f"the listener's goal is {goal}")


def test_a_goal_without_its_data_is_passed_over() -> None:
    """Popularity cannot be followed where nobody has listened, nor variety judged without vectors."""
    assert chosen(pool(), user_context={"goal": "popular"})[0] == "similarity"
    assert chosen(pool(heard=0.5), user_context={"goal": "popular"})[0] == "popular"
    assert chosen(pool(vectors=False), user_context={"goal": "variety"})[0] == "similarity"
    assert chosen(pool(), user_context={"goal": ["odd"], "recent_skips": "many"})[0] == "similarity"


def test_skips_call_for_variety() -> None:
    """Three skips lately: something else."""
    assert chosen(pool(), user_context={"recent_skips": 3})[:2] == ("diverse", "mmr")
    assert chosen(pool(), user_context={"recent_skips": 2})[0] == "similarity"


def test_seeds_that_differ_are_all_heard() -> None:
    """Two seeds at a right angle call for clusters; two alike do not."""
    apart = (Seed(100, vector=unit([1] + [0] * 7)), Seed(101, vector=unit([0, 1] + [0] * 6)))
    assert chosen(pool(), seeds=apart)[:2] == ("diverse", "cluster")
    close = (Seed(100, vector=unit([1] + [0] * 7)), Seed(101, vector=unit([1, 0.1] + [0] * 6)))
    assert chosen(pool(), seeds=close)[0] == "similarity"


def test_nearest_that_repeat_themselves_call_for_variety() -> None:
    """All by one composer, or nearly the same vectors."""
    assert chosen(pool(composer="Palestrina")) == (
        "diverse",
        "mmr",
        "10 of the 10 nearest share one composer",
    )
    assert chosen(pool(alike=True))[:2] == ("diverse", "mmr")
    assert chosen(pool(composer="Anonymous"))[0] == "similarity"


def test_listening_that_is_known_counts() -> None:
    """From a tenth of the candidates on; that their shares differ is not enough."""
    assert chosen(pool(heard=0.1)) == ("hybrid", None, "enough of the candidates have been listened to")
    assert chosen(pool(heard=0.05))[0] == "similarity"

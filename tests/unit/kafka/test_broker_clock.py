"""How old messages are, by the broker's clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.broker_clock import BrokerClock

pytestmark = pytest.mark.unit

_STEPS = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), min_size=1, max_size=60)


@settings(deadline=None)
@given(skew=st.floats(-1e6, 1e6), steps=_STEPS)
def test_ages_are_never_too_large_and_are_off_by_the_quickest_way_at_most(
    skew: float, steps: list[tuple[float, float]]
) -> None:
    """Whatever the two clocks differ by: an age is the time on the way, less that of the quickest message of late."""
    now = [0.0]
    clock = BrokerClock(lambda: now[0])
    ways: list[tuple[float, float]] = []
    for passed, way in steps:
        now[0] += passed
        ways.append((now[0], way))
        age = clock.age(now[0] - way + skew)
        quickest = min(w for at, w in ways if now[0] - at <= 10)
        assert way - quickest - 1e-6 <= age <= way + 1e-6


def test_a_clock_that_is_set_back_is_believed_after_a_while() -> None:
    """Messages look old for twenty seconds at most."""
    now = [0.0]
    clock = BrokerClock(lambda: now[0])
    assert clock.age(100.0) == 0.0
    now[0] = 5.0
    assert clock.age(100.0) == pytest.approx(5.0)  # five seconds on its way, or set back: nobody can tell
    for at in (11.0, 22.0, 33.0):
        now[0] = at
        age = clock.age(95.0 + at)
    assert age == 0.0

"""A list is chosen from all there is: pools follow each other until it is full, or nothing is left that may be listed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.strategies import Caps, Query, select_list
from tests.support.examples import examples
from tests.unit.strategies.helpers import around, candidates, unit

pytestmark = pytest.mark.unit


@settings(max_examples=examples(200), deadline=None)
@given(
    composers=st.lists(st.sampled_from([None, "a", "a", "a", "b", "c", "Anonymous", "anon."]), max_size=60),
    cap=st.integers(1, 3),
    anonymous=st.booleans(),
    strategy=st.sampled_from(["similarity", "diverse", "popular", "hybrid", "random"]),
)
def test_a_cap_is_kept_as_long_as_the_catalogue_can(
    composers: list[str | None], cap: int, anonymous: bool, strategy: str
) -> None:
    """As many are listed as the cap allows of all there is, however small the pool; stand-ins count if that is asked."""
    rows = [{"composer": name} for name in composers]
    vectors = unit(np.random.default_rng(len(rows)).normal(size=(len(rows), 4)))
    pool = around(unit([1, 0, 0, 0]), vectors.reshape(-1, 4), rows) if rows else candidates([])
    parameters = {} if strategy == "similarity" else {"pool": 10}
    query = Query(
        top_k=50, strategy=strategy, parameters=parameters, at_least=0, caps=Caps(cap, anonymous=anonymous)
    )
    made = select_list(pool, query)
    nobody = [name for name in composers if name in ("Anonymous", "anon.")]
    known = [name for name in composers if name is not None and name not in nobody]
    expected = composers.count(None) + sum(min(cap, known.count(name)) for name in set(known))
    expected += min(cap, len(nobody)) if anonymous else len(nobody)
    assert len(made.items) == min(50, expected)
    assert made.relaxed == ()


def test_a_pool_is_of_what_may_still_be_listed() -> None:
    """What a cap has closed takes no place in the next pool, and what was picked from the first one stays on top."""
    rows = [{"composer": "Bach"}] * 300 + [{"composer": f"c{i}"} for i in range(10)]
    pool = candidates(np.linspace(0.9, 0.1, 310), rows)
    made = select_list(
        pool, Query(strategy="popular", parameters={"pool": 10}, top_k=5, caps=Caps(composer=1))
    )
    assert made.keys == [0, 300, 301, 302, 303]
    assert made.relaxed == ()

"""Each message of the change feed is the difference to the one before, whatever happens in between."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import wait_none

from streams.kafka import retry
from tests.support.examples import examples
from tests.support.feed_histories import KINDS, SWITCHES, FeedHistory, Step, memory_stores

pytestmark = pytest.mark.unit


def steps(*kinds: str) -> st.SearchStrategy[list[Step]]:
    """Histories of these kinds of steps."""
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 1 << 16)), min_size=1, max_size=30)


@pytest.fixture(autouse=True, scope="module")
def _at_once() -> object:
    """What is tried again is tried at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "wait_exponential_jitter", lambda **_: wait_none())
        yield


@settings(max_examples=examples(400), deadline=None)
@given(steps(*KINDS))
def test_added_and_removed_are_the_difference_to_the_message_before(history: list[Step]) -> None:
    """Through flushes, withdrawals, returns, broken deliveries, deaths and take-overs; a version names one list."""
    asyncio.run(FeedHistory(memory_stores(1)).play(history))


@settings(max_examples=examples(400), deadline=None)
@given(steps(*KINDS, *SWITCHES))
def test_the_feed_ends_with_the_lists_of_the_generation_that_serves(history: list[Step]) -> None:
    """However often another one is promoted, whoever sees that late or never, dies, or loses the right unawares."""
    asyncio.run(FeedHistory(memory_stores(2)).play(history))

"""Each message of the change feed is the difference to the one before, whatever happens in between."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import wait_none

from streams.kafka import retry
from tests.support.examples import examples
from tests.support.feed_histories import KINDS, FeedHistory, MemoryStore, Step

pytestmark = pytest.mark.unit

STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 16)), min_size=1, max_size=30)


@pytest.fixture(autouse=True, scope="module")
def _at_once() -> object:
    """What is tried again is tried at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "wait_exponential_jitter", lambda **_: wait_none())
        yield


@settings(max_examples=examples(400), deadline=None)
@given(STEPS)
def test_added_and_removed_are_the_difference_to_the_message_before(steps: list[Step]) -> None:
    """Through flushes, withdrawals, returns, broken deliveries, deaths and take-overs; a version names one list."""
    asyncio.run(FeedHistory(MemoryStore()).play(steps))

"""Changes as subscribers see them, and how far they have come."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.kafka.change_subscriber import ChangeSubscription
from serving.kafka.changes import (
    FeedChange,
    UnreadableChangeError,
    described_change,
    event_id,
    read_positions,
)

pytestmark = pytest.mark.unit


def _change(offset: int = 1, **members: Any) -> FeedChange:
    value = {"added": [], "removed": [], "recommendations": [{"track_id": "x", "score": 0.5}]} | members
    return FeedChange(0, offset, "a", orjson.dumps(value))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_change(added=["x"]), "first-list"),
        (_change(added=["x"], removed=["y"]), "changed"),
        (_change(removed=["y"]), "changed"),
        (_change(), "changed"),
        (_change(added=None, removed=None), "told-again"),
        (_change(added=["x"], reason="promoted", generation=2), "promoted"),
        (_change(added=["x"], reason=None), "first-list"),
        (FeedChange(0, 1, "a", None), "withdrawn"),
    ],
)
def test_each_change_has_its_reason(change: FeedChange, reason: str) -> None:
    """What happened is told from what came and went, with the offset; the list only where it is wanted."""
    told = described_change(change, whole=False)
    assert (told["reason"], told["offset"]) == (reason, {"partition": 0, "offset": 1})
    assert "recommendations" not in told
    assert "recommendations" in described_change(change, whole=True)


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        (_change(space="default", generation=2), ("default", 2)),
        (_change(), ("default", 1)),
        (FeedChange(0, 1, "a", None), (None, None)),
    ],
)
def test_a_change_says_whose_list_it_is(
    change: FeedChange, generation: tuple[str | None, int | None]
) -> None:
    """That of the generation in the message; older messages are of the first, and a tombstone is of none."""
    told = described_change(change, whole=False)
    assert (told["space"], told["generation"]) == generation


seen_positions = st.dictionaries(st.integers(0, 999_999), st.integers(-1, 10**18 - 1), min_size=1)
spaces = st.sampled_from(["default", "melody", "m0"])


@given(seen_positions, spaces)
def test_positions_come_back_as_they_were_told(seen: dict[int, int], space: str) -> None:
    """An id gives back what was seen of each partition of the space's feed."""
    assert read_positions(event_id(seen, space), space) == seen


@given(seen_positions, spaces, spaces)
def test_an_id_of_another_space_is_refused(seen: dict[int, int], space: str, other: str) -> None:
    """Its positions mean nothing in the other feed: it says which space it is of."""
    if other != space:
        with pytest.raises(ValueError, match=f"is of the changes of space {space}, not of {other}"):
            read_positions(event_id(seen, space), other)


def test_ids_of_the_space_default_are_as_they_were_before_there_were_spaces() -> None:
    """Readers who have one go on with it."""
    assert (event_id({1: 7, 0: 2}, "default"), event_id({1: 7}, "melody")) == ("0:2,1:7", "melody@1:7")


@given(st.text() | st.from_regex(r"([a-z0-9]{0,3}@)?[0-9:,-]{0,30}", fullmatch=True), spaces)
def test_what_is_no_position_is_refused(text: str, space: str) -> None:
    """Whatever the text, there are positions, or a ValueError and nothing else."""
    try:
        seen = read_positions(text, space)
    except ValueError:
        return
    assert min(seen.values(), default=-1) >= -1


def test_of_a_partition_named_twice_nothing_is_left_out() -> None:
    """The lowest offset counts; an empty id names none."""
    assert read_positions("1:7,2:3,1:5,1:9", "default") == {1: 5, 2: 3}
    assert read_positions("", "melody") == {}


async def test_a_subscription_that_has_ended_tells_what_it_has_and_no_more() -> None:
    """Its reader does not wait for what never comes."""
    subscription = ChangeSubscription(limit=3, max_bytes=10_000, wanted=None)
    subscription.offer(_change(1))
    subscription.end()
    subscription.offer(_change(2))
    assert [change.offset for change in await subscription.next()] == [1]
    assert await subscription.next() == []


async def test_a_subscription_keeps_no_more_than_its_limit() -> None:
    """A reader who is too far behind gets what was kept, in order, and then the end, whatever comes later."""
    subscription = ChangeSubscription(limit=3, max_bytes=10_000, wanted=None)
    for offset in range(10):
        subscription.offer(_change(offset))
    assert [change.offset for change in await subscription.next()] == [0, 1, 2]
    subscription.offer(_change(10))
    assert await subscription.next() == []


async def test_a_reader_waits_for_the_next_change() -> None:
    """Nothing to tell is waited out, and what comes is told at once."""
    subscription = ChangeSubscription(limit=3, max_bytes=10_000, wanted=None)
    waiting = asyncio.create_task(subscription.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    subscription.offer(_change(7))
    assert [change.offset for change in await waiting] == [7]


async def test_a_subscription_keeps_no_more_than_its_bytes() -> None:
    """However few they are, changes that are large take no more than they may; one that is larger is kept alone."""
    large = FeedChange(0, 1, "a", b"x" * 700)
    subscription = ChangeSubscription(limit=100, max_bytes=2_000, wanted=None)
    for _ in range(10):
        subscription.offer(large)
    assert len(await subscription.next()) == 2
    assert await subscription.next() == []
    subscription = ChangeSubscription(limit=100, max_bytes=500, wanted=None)
    subscription.offer(large)
    assert await subscription.next() == [large]
    subscription.offer(large)
    assert await subscription.next() == [large]


async def test_what_is_given_at_a_time_is_bounded() -> None:
    """A reader who is behind is given its changes in portions of some tens of kilobytes."""
    subscription = ChangeSubscription(limit=1_000, max_bytes=10**6, wanted=None)
    for offset in range(50):
        subscription.offer(FeedChange(0, offset, "a", b"x" * 16_000))
    given = [await subscription.next() for _ in range(10)]
    assert [change.offset for some in given for change in some] == list(range(50))
    assert {len(some) for some in given} == {5}


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists, max_leaves=5).map(orjson.dumps)
)
def test_what_is_no_change_is_told_as_that(value: bytes) -> None:
    """Whatever a message holds, it is described or refused, and nothing else."""
    try:
        told = described_change(FeedChange(0, 1, "a", value), whole=True)
    except UnreadableChangeError:
        return
    assert isinstance(told["recommendations"], list)

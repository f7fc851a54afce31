"""Ready answers in memory: bounded, found by what was asked, lost by what has changed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.recommend.response_cache import CachedResponse, ResponseCache

pytestmark = pytest.mark.unit


def _entry(target: str, *mentions: str, size: int = 10) -> CachedResponse:
    return CachedResponse(
        target=target.encode(),
        body=b"x" * size,
        tag=b'W/"t"',
        track_id=mentions[0] if mentions else target,
        place=1,
        state=1,
        owner=0,
        mentions=mentions or (target,),
        checked=1,
    )


def test_stays_within_its_bytes_and_loses_the_least_recently_used() -> None:
    """A new entry drives out as many as it takes, those longest unread first; the index forgets them too."""
    one = _entry("a").size
    memory = ResponseCache(3 * one)
    for name in "abc":
        memory.put(_entry(name))
    assert memory.get(b"a") is not None
    memory.put(_entry("d"))
    assert [memory.get(name.encode()) is not None for name in "abcd"] == [True, False, True, True]
    assert (memory.evicted, memory.bytes, len(memory)) == (1, 3 * one, 3)
    memory.outdate(["b"])
    memory.forget("b")
    assert memory.invalidated == 0


def test_an_entry_larger_than_all_there_is_is_not_kept() -> None:
    """Nor does it drive out the others; with no room at all nothing is kept."""
    memory = ResponseCache(5_000)
    memory.put(_entry("a"))
    memory.put(_entry("b", size=10_000))
    assert (memory.get(b"a") is not None, memory.get(b"b")) == (True, None)
    nothing = ResponseCache(0)
    nothing.put(_entry("a"))
    assert len(nothing) == 0


def test_a_changed_list_outdates_its_own_entries_only() -> None:
    """A track's new list says nothing about lists that merely hold the track; a new title does."""
    memory = ResponseCache(100_000)
    own, other = _entry("/a", "a", "b"), _entry("/b", "b", "a")
    memory.put(own)
    memory.put(other)
    memory.outdate(["a"], own=True)
    assert (own.outdated, other.outdated) == (True, False)
    memory.outdate(["a"])
    assert (own.outdated, other.outdated) == (True, True)
    assert memory.invalidated == 2


def test_a_withdrawn_track_takes_every_entry_that_mentions_it() -> None:
    """They are gone, not merely outdated: nothing may show it, not even while the store is away."""
    memory = ResponseCache(100_000)
    for entry in (_entry("/a", "a", "b"), _entry("/b", "b", "c"), _entry("/c", "c", "d")):
        memory.put(entry)
    memory.forget("b")
    assert [memory.get(target) is not None for target in (b"/a", b"/b", b"/c")] == [False, False, True]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "forget"]),
            st.sampled_from("abcdef"),
            st.lists(st.sampled_from("tuvw"), min_size=1, max_size=3, unique=True),
        ),
        max_size=40,
    )
)
@settings(deadline=None)
def test_what_it_holds_is_what_its_index_says(steps: list[tuple[str, str, list[str]]]) -> None:
    """After any history each entry is found by each of its tracks, and nothing else is; bytes add up."""
    memory = ResponseCache(4 * _entry("a", "t").size)
    for step, target, mentions in steps:
        if step == "put":
            memory.put(_entry(target, *mentions))
        elif step == "drop":
            memory.drop(target.encode())
        else:
            memory.forget(mentions[0])
    entries = list(memory._entries.values())
    indexed = {(entry.target, name) for name, found in memory._entries.mentioning.items() for entry in found}
    assert indexed == {(entry.target, name) for entry in entries for name in entry.mentions}
    assert memory.bytes == sum(entry.size for entry in entries) <= memory.max_bytes

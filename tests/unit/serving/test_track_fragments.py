"""What is said of tracks in lists: at hand for one version of a row, bounded, read many at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.recommend import track_fragments as cards
from serving.recommend.track_fragments import TrackFragment, TrackFragments
from store import listed
from store.listed import ListedTrack
from tests.support.metadata import NOTHING_KNOWN

pytestmark = pytest.mark.unit

METADATA: dict[str, Any] = NOTHING_KNOWN
SIZE = TrackFragment(ListedTrack(1, 1, "1000", METADATA)).size


class _FragmentStore:
    """Tracks by key, with the version of each; odd keys are there."""

    def __init__(self) -> None:
        self.epoch = 7.0
        self.version = 1
        self.asked: list[list[int]] = []

    async def read_tracks(self, _: object, keys: Sequence[int]) -> tuple[float, list[ListedTrack]]:
        self.asked.append(sorted(keys))
        await asyncio.sleep(0)
        tracks = [ListedTrack(key, self.version, f"{key:04}", METADATA) for key in keys if key % 2]
        return (self.epoch if tracks else 0.0), tracks


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> _FragmentStore:
    """A store in place of Postgres."""
    made = _FragmentStore()
    monkeypatch.setattr(listed, "read_listed_tracks", made.read_tracks)
    return made


def _cards(max_bytes: int) -> TrackFragments:
    return TrackFragments(None, max_bytes, 5)  # type: ignore[arg-type]


async def _fill(kept: TrackFragments, *keys: int, version: int = 1) -> None:
    kept.at_hand(7.0, list(keys), [version] * len(keys))
    await kept.read(keys)


def _there(kept: TrackFragments, *keys: int, epoch: float = 7.0, version: int = 1) -> list[bool]:
    return [card is not None for card in kept.at_hand(epoch, list(keys), [version] * len(keys))]


async def test_a_card_is_used_for_its_version_alone(store: _FragmentStore) -> None:
    """A row that was written since is read again, and what was read then takes the place of what was there."""
    kept = _cards(100 * SIZE)
    await _fill(kept, 1, 3)
    assert _there(kept, 1, 3) == [True, True]
    assert [card and card.version for card in kept.at_hand(7.0, [1, 3, 5], [1, 2, 1])] == [1, None, None]
    store.version = 2
    await _fill(kept, 3, version=2)
    assert _there(kept, 3, version=2) == [True]
    assert _there(kept, 3) == [False]
    assert (len(kept), kept.bytes) == (2, 2 * SIZE)


async def test_another_server_counts_anew(store: _FragmentStore) -> None:
    """Nothing of another epoch is used, though its versions are the same numbers, nor kept if read of it meanwhile."""
    kept = _cards(100 * SIZE)
    await _fill(kept, 1)
    assert _there(kept, 1, epoch=8.0) == [False]
    assert len(kept) == 0
    found = await kept.read([1])
    assert found[1].track_id == "0001"
    assert _there(kept, 1, epoch=8.0) == [False]
    store.epoch = 8.0
    await kept.read([1])
    assert _there(kept, 1, epoch=8.0) == [True]


async def test_readers_share_a_query(store: _FragmentStore) -> None:
    """What several ask for while a query is under way is asked for once; what is not there is left out for each."""
    kept = _cards(0)
    first = asyncio.create_task(kept.read([1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    found = await asyncio.gather(first, kept.read([3, 4]), kept.read([5, 3]))
    assert store.asked == [[1], [3, 4, 5]]
    assert all(
        set(wanted) <= found_keys
        for wanted, found_keys in zip([{1}, {3}, {3, 5}], map(set, found), strict=True)
    )
    assert 4 not in found[1]
    assert (kept.read_count, len(kept), kept.bytes) == (3, 0, 0)


async def test_many_tracks_are_read_in_turns(store: _FragmentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One query reads so many tracks and no more."""
    monkeypatch.setattr(cards, "_TOGETHER", 4)
    found = await _cards(100 * SIZE).read(range(1, 20, 2))
    assert sorted(found) == list(range(1, 20, 2))
    assert [len(keys) for keys in store.asked] == [4, 4, 2]


async def test_what_is_used_stays(store: _FragmentStore) -> None:
    """A fragment that is used repeatedly outlives any number of others; unused ones are evicted."""
    kept = _cards(8 * SIZE)
    await _fill(kept, 1, 3)
    for key in range(5, 101, 2):
        await _fill(kept, key)
        assert _there(kept, 1) == [True]
    assert _there(kept, 3, 99) == [False, True]
    assert len(store.asked) == 1 + 48


class TestBounds:
    """What is at hand takes no more than it may."""

    @pytest.mark.parametrize("room", [0, 1, 2 * SIZE - 1])
    async def test_what_does_not_fit_is_not_kept(self, store: _FragmentStore, room: int) -> None:
        """A fragment that is too large is answered with, and evicts nothing."""
        kept = _cards(room)
        assert set(await kept.read([1, 3])) == {1, 3}
        assert (len(kept), kept.bytes) == (0, 0)

    @given(st.integers(2, 20), st.lists(st.integers(0, 30), max_size=60))
    def test_bytes_are_those_of_the_cards_at_hand(self, room: int, used: list[int]) -> None:
        """Whatever is used in whatever order, the bytes are the sum, and within what is allowed."""
        patch = pytest.MonkeyPatch()
        store = _FragmentStore()
        patch.setattr(listed, "read_listed_tracks", store.read_tracks)

        async def use(kept: TrackFragments) -> None:
            for number in used:
                key = 2 * number + 1
                if not _there(kept, key)[0]:
                    await _fill(kept, key)
                assert kept.bytes == len(kept) * SIZE <= room * SIZE
                assert _there(kept, key) == [True]

        try:
            asyncio.run(use(_cards(room * SIZE)))
        finally:
            patch.undo()


def test_a_card_has_its_metadata() -> None:
    """The metadata alone are those of the track, as JSON."""
    card = TrackFragment(ListedTrack(1, 1, "a", METADATA | {"title": "}]"}))
    assert card.metadata.startswith(b'{"title":"}]"')
    assert card.ended.endswith(card.metadata + b',"cached":true}')

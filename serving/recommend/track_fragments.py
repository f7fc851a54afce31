"""What is said of a track wherever it is listed, ready to be sent, and kept in this process's memory.

A card never goes by time. It is used for a row of the very version that was just read, and for no other, so that it never
says anything that Postgres does not. The least recently used go first.
"""

import hashlib
from collections.abc import Iterable

import asyncpg
import orjson
from cachetools import LRUCache

from serving.recommend.batching import RequestBatcher
from serving.recommend.explanations import facts_of
from store import listed
from store.listed import ListedTrack
from streams.contracts.rendering import filename_of, track_members

# What a card takes beside its JSON.
_CARD_BYTES = 700
# Fields most asked for, without the braces, and metadata.
_ENDED = b',"components":{},"seed":null,"contributions":{},"relaxed":[],%b,"cached":true}'
_BEHIND_METADATA = len(b',"cached":true}')
# Tracks that one query reads: more would keep the event loop from anything else while they are unpacked.
_TOGETHER = 500


class TrackFragment:
    """A track as a list has it.

    Attributes:
        version: Of the row that it was made from.
        track_id: The track.
        facts: What it may have in common with others.
        begun: JSON of its item up to the score, with a comma before it.
        ended: JSON of its item behind the explanation.
        digest: Equal for equal `begun` and `ended`.
        size: Bytes that it takes, roughly.
    """

    __slots__ = ("_metadata_at", "begun", "digest", "ended", "facts", "size", "track_id", "version")

    def __init__(self, track: ListedTrack) -> None:
        metadata = orjson.dumps(track.metadata)
        self.version = track.version
        self.track_id = track.track_id
        self.facts = facts_of(track.metadata)
        self.begun = b',{"track_id":%b,"score":' % orjson.dumps(track.track_id)
        filename = filename_of(track.metadata["extra"])
        self.ended = _ENDED % track_members(track.metadata, filename, orjson.Fragment(metadata))
        self.digest = hashlib.blake2b(self.begun + self.ended, digest_size=16).digest()
        self.size = _CARD_BYTES + 2 * len(self.begun) + len(self.ended)
        self._metadata_at = len(self.ended) - _BEHIND_METADATA - len(metadata)

    @property
    def metadata(self) -> bytes:
        """JSON of all fields."""
        return self.ended[self._metadata_at : -_BEHIND_METADATA]


class TrackFragments:
    """What lists say of tracks, by key: at hand, or read many at a time.

    Args:
        pool: The store.
        max_bytes: What all that are at hand may take together; 0 keeps none.
        timeout: Seconds one query may take.

    Attributes:
        read_count: How many have been read from the store.
    """

    def __init__(self, pool: asyncpg.Pool, max_bytes: int, timeout: float) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self._cards = self._no_cards()
        self._epoch: float | None = None
        self._reads = RequestBatcher[tuple[int, ...], dict[int, TrackFragment]](self._read, timeout)
        self.read_count = 0

    def at_hand(self, epoch: float, keys: list[int], versions: list[int]) -> list[TrackFragment | None]:
        """The cards for rows of these versions, in the same order; None for those that are not at hand.

        Args:
            epoch: What the versions belong to.
            keys: The tracks.
            versions: Of their rows.
        """
        if epoch != self._epoch:
            self._cards, self._epoch = self._no_cards(), epoch
        cards = map(self._cards.get, keys)
        return [
            card if card is not None and card.version == version else None
            for card, version in zip(cards, versions, strict=True)
        ]

    async def read(self, keys: Iterable[int]) -> dict[int, TrackFragment]:
        """The cards of these tracks as of now, perhaps with others; those of tracks that have gone are left out.

        Raises:
            StoreUnavailableError: Postgres cannot be reached, or does not answer in time.
        """
        return await self._reads.get(tuple(keys)) or {}

    def _no_cards(self) -> LRUCache[int, TrackFragment]:
        return LRUCache(self._max_bytes, getsizeof=lambda card: card.size)

    def _keep(self, key: int, card: TrackFragment) -> None:
        if card.size <= self._max_bytes:
            self._cards[key] = card

    async def _read(self, groups: list[tuple[int, ...]]) -> dict[tuple[int, ...], dict[int, TrackFragment]]:
        """Every reader's tracks, each once; all readers get all of them."""
        keys = list({key for group in groups for key in group})
        cards: dict[int, TrackFragment] = {}
        for start in range(0, len(keys), _TOGETHER):
            epoch, tracks = await listed.read_listed_tracks(self._pool, keys[start : start + _TOGETHER])
            for track in tracks:
                card = cards[track.key] = TrackFragment(track)
                if epoch == self._epoch:
                    self._keep(track.key, card)
            self.read_count += len(tracks)
        return dict.fromkeys(groups, cards)

    @property
    def bytes(self) -> int:
        """What those at hand take, roughly."""
        return int(self._cards.currsize)

    def __len__(self) -> int:
        return len(self._cards)

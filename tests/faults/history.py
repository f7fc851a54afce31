"""Histories of a catalogue, drawn from a seed, and what they must end in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import orjson
from aiokafka import ConsumerRecord

from streams.contracts import encode_track, unit_vector

DIMENSION = 16
CENTRES = 6

Message = tuple[bytes, bytes | None]


class MessageKind(StrEnum):
    """What a message does to the catalogue."""

    UPSERT = "upsert"
    DELETE = "delete"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a message means, known from how it was made.

    Attributes:
        kind: What it does.
        embedding: Little-endian float32 at unit length, of an upsert.
        title: Of an upsert.
    """

    kind: MessageKind
    embedding: bytes = b""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A track as it must be stored.

    Attributes:
        partition: Of the event that has the last word.
        offset: Likewise.
        meaning: Of that event.
    """

    partition: int
    offset: int
    meaning: Meaning


@dataclass
class History:
    """Makes messages, and remembers what each of them means.

    Args:
        rng: Where everything is drawn from.
    """

    rng: np.random.Generator
    meanings: dict[tuple[bytes, bytes | None], Meaning] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._centres = self.rng.standard_normal((CENTRES, DIMENSION))
        self._vectors: dict[str, np.ndarray] = {}
        self._deleted: list[str] = []
        self._made = 0

    def events(self, count: int) -> list[Message]:
        """At least `count` further messages."""
        messages: list[Message] = []
        while len(messages) < count:
            messages += self._some()
            if self.rng.random() < 0.03:
                messages.append(messages[-1])
        self.sent += messages
        return messages

    def again(self, count: int) -> list[Message]:
        """A stretch of what was sent before, once more."""
        start = int(self.rng.integers(0, max(1, len(self.sent) - count)))
        messages = self.sent[start : start + count]
        self.sent += messages
        return messages

    def _some(self) -> list[Message]:
        draw = self.rng.random()
        known = list(self._vectors)
        if draw < 0.46 or len(known) < 10:
            return [self._upsert(self._new_id(), self._vector())]
        chosen = known[int(self.rng.integers(len(known)))]
        return self._some_of(chosen, draw)

    def _some_of(self, chosen: str, draw: float) -> list[Message]:
        """What may happen to a track that is there."""
        if draw < 0.62:
            return [self._upsert(chosen, self._vector())]
        if draw < 0.74:
            return [self._delete(chosen)]
        if draw < 0.80 and self._deleted:
            back = self._deleted[int(self.rng.integers(len(self._deleted)))]
            return [self._upsert(back, self._vector())]
        if draw < 0.88:
            return [self._upsert(chosen, self._vectors[chosen])]
        if draw < 0.94:
            return [self._bad(chosen)]
        # Close together, one track: all in one micro-batch, or torn apart by its end.
        vector = self._vectors[chosen]
        return [
            self._upsert(chosen, self._vector()),
            self._delete(chosen),
            self._upsert(chosen, vector if draw < 0.98 else self._vector()),
        ]

    def _new_id(self) -> str:
        self._made += 1
        return f"fault/{self._made:05d}"

    def _vector(self) -> np.ndarray:
        # Sometimes one that another track has: similarities tie, and the order of ids decides.
        if self._vectors and self.rng.random() < 0.05:
            return self._vectors[str(self.rng.choice(list(self._vectors)))]
        return self._centres[self.rng.integers(CENTRES)] + self.rng.standard_normal(DIMENSION)

    def _upsert(self, track_id: str, vector: np.ndarray) -> Message:
        title = f"title {int(self.rng.integers(1_000_000))}"
        message = encode_track(track_id, vector, {"title": title})
        # At unit length twice, by the sender and by validation: that may differ in the last bit.
        embedding = unit_vector(unit_vector(vector)).astype("<f4").tobytes()
        self.meanings[message] = Meaning(MessageKind.UPSERT, embedding, title)
        self._vectors[track_id] = vector
        if track_id in self._deleted:
            self._deleted.remove(track_id)
        return message

    def _delete(self, track_id: str) -> Message:
        message = (track_id.encode(), None)
        self.meanings[message] = Meaning(MessageKind.DELETE)
        self._vectors.pop(track_id, None)
        if track_id not in self._deleted:
            self._deleted.append(track_id)
        return message

    def _bad(self, track_id: str) -> Message:
        """An event of a track that exists, which must stay as it is."""
        nonce = int(self.rng.integers(1_000_000_000))
        event = {"track_id": track_id, "embedding": [1.0] * DIMENSION, "metadata": {"title": f"bad {nonce}"}}
        values = [
            b"{nope %d" % nonce,
            b"\xff\xfe %d" % nonce,
            orjson.dumps(event | {"track_id": f"{track_id}/other"}),
            orjson.dumps(event | {"embedding": [1.0] * (DIMENSION + 1)}),
            orjson.dumps(event | {"embedding": [0.0] * DIMENSION}),
            orjson.dumps(event).replace(b"1.0,", b"1e999,", 1),
            orjson.dumps({"track_id": track_id, "metadata": {"title": f"bad {nonce}"}}),
            orjson.dumps(event | {"metadata": [f"bad {nonce}"]}),
        ]
        message = (track_id.encode(), values[int(self.rng.integers(len(values)))])
        self.meanings[message] = Meaning(MessageKind.BAD)
        return message


class LoggedCatalogue:
    """The catalogue that a log makes, whatever the order in which it is read: the last word on each track wins.

    Within a partition the offset decides, between partitions the broker's time, and of equal times the partition.

    Args:
        meanings: By key and value.
    """

    def __init__(self, meanings: dict[tuple[bytes, bytes | None], Meaning]) -> None:
        self._meanings = meanings
        self._last: dict[str, ConsumerRecord] = {}
        self.tracks: dict[str, Stored] = {}
        self.bad: dict[tuple[int, int], Message] = {}

    def read(self, records: Iterable[ConsumerRecord]) -> LoggedCatalogue:
        """Read messages, in any order."""
        for record in records:
            meaning, name = self._meanings[record.key, record.value], record.key.decode()
            if meaning.kind is MessageKind.BAD:
                self.bad[record.partition, record.offset] = (record.key, record.value)
                continue
            last = self._last.get(name)
            if last is not None and not _is_after(record, last):
                continue
            self._last[name] = record
            if meaning.kind is MessageKind.DELETE:
                self.tracks.pop(name, None)
            else:
                self.tracks[name] = Stored(record.partition, record.offset, meaning)
        return self


def _is_after(one: ConsumerRecord, other: ConsumerRecord) -> bool:
    if one.partition == other.partition:
        return bool(one.offset > other.offset)
    return bool((one.timestamp, one.partition) > (other.timestamp, other.partition))

"""A generation beside the catalogue of a history: its messages, its workers' settings, and what it must end in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg
import numpy as np
from aiokafka import ConsumerRecord
from pydantic import SecretStr

from mess.spaces import lifecycle
from store.pool import UNAVAILABLE, open_pool
from store.settings import StoreSettings
from streams.contracts import encode_track, parse_track_event, read_dead_letter_headers
from streams.contracts.tracks import TrackUpsert
from streams.generations import GenerationName
from streams.maintenance.catalogue_tracks import WITHDRAWN_HEADER
from streams.settings import KafkaSettings, StreamSettings
from streams.strategies.aspects import FirstTrack, Layout
from tests.faults.history import DIMENSION, LoggedCatalogue, Meaning, Message, MessageKind
from tests.faults.oracle import at_rest
from tests.support.polling import until
from tests.support.worker import read_topic, wrong_lists

# Of its vectors.
SIZE = 12
# Of the tracks with a new vector, the share whose vector here is taken away instead.
TAKEN_AWAY = 0.04


@dataclass
class Beside:
    """A generation.

    Args:
        database_url: The catalogue's tables.
        servers: The broker.
        rng: Draws its model, and whose vectors are taken away.
        name: Its name.
        layout: The aspects of its vectors and their weights; None: they have none.
    """

    database_url: str
    servers: str
    rng: np.random.Generator
    name: GenerationName
    layout: Layout | None = None
    meanings: dict[tuple[bytes, bytes | None], Meaning] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._model = self.rng.standard_normal((SIZE, DIMENSION))
        self._store = StoreSettings(database_url=SecretStr(self.database_url), pool_max_size=2)
        self.settings = {"MESS_SPACE": self.name.space, "MESS_GENERATION": str(self.name.number)}
        self.url = self._store.of_schema(self.name.schema).dsn

    async def create(self) -> None:
        """Create its tables and its topics."""
        kafka = KafkaSettings(bootstrap_servers=self.servers)
        aspects = () if self.layout is None else self.layout.aspects
        weights = ",".join(f"{each.name}:{each.weight}" for each in aspects) or None
        async with await open_pool(self._store, application_name="test") as pool:
            made = await lifecycle.create(
                kafka, StreamSettings(), pool, space=self.name.space, weights=weights
            )
        assert made.name == self.name

    def messages(self, events: Iterable[Message], meanings: dict[Message, Meaning]) -> list[Message]:
        """The vectors by its model of the tracks that these events of the catalogue embed."""
        found: list[Message] = []
        for key, value in events:
            meaning = meanings[key, value]
            if meaning.kind is not MessageKind.UPSERT:
                continue
            name = key.decode()
            if self.rng.random() < TAKEN_AWAY:
                message: Message = (key, None)
                self.meanings[message] = Meaning(MessageKind.DELETE)
            else:
                vector = self._model @ np.frombuffer(meaning.embedding, dtype="<f4").astype(np.float64)
                message = self._upsert(name, vector)
            found.append(message)
        return found

    def _upsert(self, name: str, vector: np.ndarray) -> Message:
        layout = self.layout
        parts = None if layout is None else {part: vector[where] for part, where in layout.parts.items()}
        message = encode_track(name, vector if parts is None else parts)
        read = parse_track_event(*message, layout=layout or FirstTrack(SIZE))
        assert isinstance(read, TrackUpsert)
        self.meanings[message] = Meaning(MessageKind.UPSERT, read.vector.astype("<f4").tobytes())
        return message

    async def at_rest(self, patience: float, *, told: bool) -> None:
        """Wait until it has taken over what the catalogue has withdrawn and changed, and everything of its own topic.

        Args:
            patience: How long it may take.
            told: Whether it serves, and so tells of its lists.
        """
        async with asyncio.timeout(patience):
            await until(self._follows, 0.2)
        await at_rest(self.url, self.servers, patience, topic=self.name.topic, told=told)

    async def _follows(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url)
        except UNAVAILABLE:
            return False
        try:
            return not await connection.fetchval(
                "SELECT count(*) FROM tracks AS t LEFT JOIN public.tracks AS c USING (key)"
                " WHERE c.key IS NULL OR c.title <> t.title"
            )
        finally:
            await connection.close()

    async def faults(self, meanings: dict[Message, Meaning]) -> list[str]:
        """Everything that is not as it must be, in words; call it when all is at rest.

        Args:
            meanings: Of the catalogue's messages.
        """
        log = _own(await read_topic(self.servers, self.name.topic))
        faults = self._wrong_tracks(
            log, await read_topic(self.servers, "track-ingest"), meanings, await self._stored()
        )
        if wrong := await wrong_lists(self.url):
            faults.append(f"{len(wrong)} lists of {self.name} are not those of brute force, e.g. {wrong[:5]}")
        for record in await read_topic(self.servers, "dead-letters"):
            headers = read_dead_letter_headers(record.headers)
            if headers["mess.source.topic"] == self.name.topic and headers["mess.error"] != "unknown_track":
                faults.append(
                    f"a dead letter of {self.name}: {headers['mess.error']}, {headers['mess.detail']}"
                )
        return faults

    async def _stored(self) -> dict[str, tuple[bytes, str, str | None]]:
        """By track, its vector, its title, and its title in the catalogue."""
        connection = await asyncpg.connect(self.url)
        try:
            rows = await connection.fetch(
                "SELECT t.track_id, t.embedding, t.title, c.title AS wanted"
                " FROM tracks AS t LEFT JOIN public.tracks AS c USING (key)"
            )
        finally:
            await connection.close()
        return {row["track_id"]: tuple(row)[1:] for row in rows}

    def _wrong_tracks(
        self,
        log: Sequence[ConsumerRecord],
        catalogue: Sequence[ConsumerRecord],
        meanings: dict[Message, Meaning],
        found: dict[str, tuple[bytes, str, str | None]],
    ) -> list[str]:
        """A track has its last vector if that came after the track's last deletion from the catalogue, which has the track."""
        times = {(record.partition, record.offset): record.timestamp for record in log}
        withdrawn: dict[str, int] = {}
        for record in catalogue:
            if record.value is None:
                name = record.key.decode()
                withdrawn[name] = max(withdrawn.get(name, 0), record.timestamp)
        wanted = LoggedCatalogue(self.meanings).read(log).tracks
        alive = LoggedCatalogue(meanings).read(catalogue).tracks
        faults = []
        for name, (embedding, title, known) in sorted(found.items()):
            if known is None:
                faults.append(f"track {name} is in {self.name} and not in the catalogue")
            elif title != known:
                faults.append(f"track {name} is called {title} in {self.name}, and {known}")
            elif name not in wanted:
                faults.append(f"track {name} should not be in {self.name}: its vector was taken away")
            elif embedding != wanted[name].meaning.embedding:
                faults.append(f"track {name} is not of its last vector in {self.name}")
            elif times[wanted[name].partition, wanted[name].offset] < withdrawn.get(name, 0):
                faults.append(f"track {name} should not be in {self.name}: it was withdrawn since")
        return faults + [
            f"track {name} is lost in {self.name}"
            for name, kept in sorted(wanted.items())
            if name not in found
            and name in alive
            and times[kept.partition, kept.offset] > withdrawn.get(name, 0)
        ]


def _own(log: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    """The messages of producers: without the tombstones by which its workers withdraw what the catalogue has."""
    return [r for r in log if not any(name == WITHDRAWN_HEADER for name, _ in r.headers)]

"""The generations beside the catalogue of a history, which serve two spaces by turns, and what readers must see in the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from pydantic import SecretStr

from store import generations, promotion
from store.errors import StoreError
from store.pool import UNAVAILABLE, open_pool, transaction
from store.settings import StoreSettings
from streams.generations import FIRST_GENERATION, GenerationName
from streams.kafka.topics import RECOMMENDATIONS
from streams.strategies.aspects import Layout
from tests.faults.beside import SIZE, Beside
from tests.faults.history import History, Message, MessageKind
from tests.faults.oracle import at_rest, wrong_feed
from tests.faults.questions import wrong_weighted_answers
from tests.support.worker import read_topic

SECOND, MELODY, SECOND_MELODY = (
    GenerationName(space, number) for space, number in (("default", 2), ("melody", 1), ("melody", 2))
)
SPACES = ("default", "melody")
# Of the vectors of the space `melody`, as many components as other generations' have.
_ASPECTS = {"contour": 5, "rhythm": SIZE - 5}
_WEIGHTS = {"contour": 0.75, "rhythm": 0.25}


@dataclass
class ServedSpaces:
    """Two spaces of two generations each, of which the first one is the catalogue itself.

    Args:
        database_url: The catalogue's tables.
        servers: The broker.
        seed: Of models, and of whose vectors are taken away.

    Attributes:
        filled: The generations beside the catalogue that are there.
        serving: By space, the generation that serves, as far as promotions have been committed.
    """

    database_url: str
    servers: str
    seed: int
    filled: list[Beside] = field(default_factory=list)
    serving: dict[str, GenerationName] = field(default_factory=lambda: {"default": FIRST_GENERATION})

    def __post_init__(self) -> None:
        self._store = StoreSettings(database_url=SecretStr(self.database_url), pool_max_size=2)

    async def create(self, name: GenerationName) -> Beside:
        """Create a generation, without vectors."""
        layout = Layout.of_sizes(_ASPECTS, _WEIGHTS) if name.space == "melody" else None
        rng = np.random.default_rng([self.seed, SPACES.index(name.space), name.number])
        made = Beside(self.database_url, self.servers, rng, name, layout)
        await made.create()
        self.filled.append(made)
        return made

    async def switch(self, space: str) -> GenerationName:
        """Let the other generation of a space serve, or its first one, as soon as Postgres is there; returns which."""
        names = [FIRST_GENERATION] if space == "default" else []
        names += [each.name for each in self.filled if each.name.space == space]
        other = next((name for name in names if name != self.serving.get(space)), names[0])
        while True:
            try:
                async with await open_pool(self._store, application_name="test") as pool:
                    # After a commit whose answer was lost, it serves already.
                    if (await generations.serving_generations(pool)).get(space) != other:
                        async with transaction(pool) as connection:
                            await promotion.promote_generation(connection, other)
            except (StoreError, *UNAVAILABLE):
                await asyncio.sleep(0.2)
            else:
                self.serving[space] = other
                return other

    async def at_rest(self, patience: float) -> None:
        """Wait until each generation has everything, and each space's feed the lists of the one that serves."""
        told = self.serving["default"] == FIRST_GENERATION
        await at_rest(self.database_url, self.servers, patience, told=told)
        for each in self.filled:
            await each.at_rest(patience, told=self.serving.get(each.name.space) == each.name)

    @property
    def feeds(self) -> dict[str, str]:
        """By space that has a generation, the topic of its feed."""
        names = [FIRST_GENERATION, *(each.name for each in self.filled)]
        return {name.space: name.feed_topic(RECOMMENDATIONS) for name in names}

    async def faults(self, history: History) -> list[str]:
        """Everything that is not as it must be, but of the catalogue itself, in words; call it when all is at rest."""
        found: list[str] = []
        for each in self.filled:
            found += await each.faults(history.meanings)
            found += await wrong_weighted_answers(each)
        for space, topic in self.feeds.items():
            name = self.serving.get(space)
            if name is not None:
                url = self._store.of_schema(name.schema).dsn
                found += [f"{topic}: {fault}" for fault in await wrong_feed(url, self.servers, topic)]
            elif await read_topic(self.servers, topic):
                found.append(f"{topic} has lists of a space that nothing has served")
        return found


def latest(history: History) -> list[Message]:
    """The messages that the tracks of a history so far are of, in the order in which they were sent."""
    last: dict[bytes, Message] = {}
    for message in history.sent:
        if history.meanings[message].kind is not MessageKind.BAD:
            last[message[0]] = message
    return [message for message in last.values() if message[1] is not None]

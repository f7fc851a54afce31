"""Which generations readers get, and whether a worker's is one of them."""

import asyncio
import contextlib
import time
from typing import Final, NoReturn

import asyncpg
import structlog

from store import generations
from store.errors import StoreUnavailableError
from streams.generations import GenerationName

log = structlog.get_logger(__name__)

# Seconds between looks: so long a switch goes unnoticed.
LOOK_SECONDS: Final = 0.25


class ServingWatch:
    """Knows which generations serve, as the store last said.

    Args:
        pool: The store, of the generation.
        name: The generation.

    Attributes:
        serves: Whether it serves; false before the first look.
        spaces: The spaces of which any generation serves; none before the first look.
        looked_at: When the last look that succeeded began, by this process's monotonic clock; before the first, minus infinity.
    """

    def __init__(self, pool: asyncpg.Pool, name: GenerationName) -> None:
        self.serves = False
        self.spaces: frozenset[str] = frozenset()
        self.looked_at = float("-inf")
        self._pool = pool
        self._name = name
        self._looked = asyncio.Event()

    async def look(self) -> None:
        """Ask the store.

        Raises:
            StoreUnavailableError: It cannot be asked; what it said before stays.
        """
        began = time.monotonic()
        serving = await generations.serving_generations(self._pool)
        serves = serving.get(self._name.space) == self._name
        if serves != self.serves:
            log.info(
                "this generation serves" if serves else "this generation does not serve", name=str(self._name)
            )
        self.serves, self.spaces, self.looked_at = serves, frozenset(serving), began
        self._looked.set()
        self._looked = asyncio.Event()

    async def run(self) -> NoReturn:
        """Look for ever."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def next_look(self) -> None:
        """Wait until a look has succeeded that had not when this was called."""
        await self._looked.wait()

    async def turned(self, was: bool) -> None:
        """Wait until `serves` is not `was`."""
        while self.serves == was:
            await self.next_look()

"""The workers that answer questions: where each listens, as the store has it, and which has least to do."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator

import asyncpg
import structlog

from store import lives
from store.errors import StoreUnavailableError
from store.lives import AnsweringWorker
from streams.single_flight import SingleFlight

logger = structlog.get_logger("serving")

# How often the store is asked who there is.
_LOOK_SECONDS = 1.0


class WorkerDirectory:
    """Knows the workers that are there, and how many of our requests each is answering.

    Args:
        pool: The store.
        timeout: Seconds a look at it may take.
    """

    def __init__(self, pool: asyncpg.Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._workers: tuple[AnsweringWorker, ...] = ()
        self._starting = 0
        self._under_way: dict[str, int] = {}
        self._turns: dict[str, float] = {}
        self._looks = SingleFlight[str, None]()

    @property
    def deserted(self) -> bool:
        """Whether at the last look no worker was there, nor was any starting."""
        return not self._workers and not self._starting

    def choose(self, refused: Collection[str]) -> AnsweringWorker | None:
        """The worker with the fewest of our requests, of equals the one whose turn is longest ago.

        Args:
            refused: Owners that are not to be chosen.
        """
        return min(
            (worker for worker in self._workers if worker.owner not in refused),
            key=lambda worker: (self._under_way.get(worker.owner, 0), self._turns.get(worker.owner, 0.0)),
            default=None,
        )

    @contextlib.contextmanager
    def occupied(self, worker: AnsweringWorker) -> Iterator[None]:
        """Count one of our requests at a worker meanwhile."""
        owner = worker.owner
        self._under_way[owner] = self._under_way.get(owner, 0) + 1
        self._turns[owner] = time.monotonic()
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]

    async def look(self) -> None:
        """Ask the store who is there; callers at the same time share one look.

        Raises:
            StoreUnavailableError: It does not answer; what was known stays.
        """
        await self._looks.run_detached("workers", self._look, name="look for workers")

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                found = await lives.fetch_answering(self._pool)
        except TimeoutError as error:
            raise StoreUnavailableError("Postgres has not said in time which workers there are") from error
        self._workers = tuple(worker for worker in found if worker.url is not None)
        self._starting = len(found) - len(self._workers)
        here = {worker.owner for worker in found}
        self._turns = {owner: turn for owner, turn in self._turns.items() if owner in here}

    async def run(self) -> None:
        """Look again and again, for ever; while the store is away, what was known stays."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """End a look that is under way."""
        await self._looks.close()

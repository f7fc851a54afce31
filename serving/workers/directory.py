"""The directory of workers: their addresses from the store, and how many of our requests each is answering."""

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

# Seconds between two reads of the workers.
_LOOK_SECONDS = 1.0


class WorkerDirectory:
    """The live workers, with the number of our requests at each.

    Args:
        pool: The store.
        timeout: Seconds that a read may take.
    """

    def __init__(self, pool: asyncpg.Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._workers: tuple[AnsweringWorker, ...] = ()
        self._starting = 0
        self._under_way: dict[str, int] = {}
        self._turns: dict[str, float] = {}
        # When each answered last.
        self._heard: dict[str, float] = {}
        self._looks = SingleFlight[str, None]()

    @property
    def deserted(self) -> bool:
        """Whether the last read found no worker, nor one that starts."""
        return not self._workers and not self._starting

    def choose(self, refused: Collection[str]) -> AnsweringWorker | None:
        """The worker with the fewest of our requests; of several, the one that was used longest ago.

        Args:
            refused: Owners to skip.
        """
        return min(
            (worker for worker in self._workers if worker.owner not in refused),
            key=lambda worker: (self._under_way.get(worker.owner, 0), self._turns.get(worker.owner, 0.0)),
            default=None,
        )

    @contextlib.contextmanager
    def occupied(self, worker: AnsweringWorker) -> Iterator[None]:
        """Count a request at a worker for the duration of a block."""
        owner = worker.owner
        self._under_way[owner] = self._under_way.get(owner, 0) + 1
        self._turns[owner] = time.monotonic()
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]

    def heard(self, worker: AnsweringWorker) -> None:
        """Record that a worker has answered."""
        self._heard[worker.owner] = time.monotonic()

    def heard_at(self, worker: AnsweringWorker) -> float:
        """When a worker last answered, by `time.monotonic`."""
        return self._heard.get(worker.owner, 0.0)

    async def look(self) -> None:
        """Read the workers from the store; concurrent callers share one read.

        Raises:
            StoreUnavailableError: It does not answer; the last result stays.
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
        self._heard = {owner: at for owner, at in self._heard.items() if owner in here}

    async def run(self) -> None:
        """Read periodically, for ever; while the store is away, the last result stays."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Cancel a read in progress."""
        await self._looks.close()

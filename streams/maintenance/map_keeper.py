"""Maintains the map: places newcomers among their neighbours at once, and lays out the whole again after many changes."""

import asyncio
import os
import sys
import time

import asyncpg
import structlog

from store import map_positions
from store.errors import StoreUnavailableError
from store.map_positions import MapState
from store.settings import StoreSettings
from streams.maintenance.ownership import Ownership
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Minimum seconds between two checks; checks may take a tenth of the time.
LOOK_SECONDS = 2.0
_LOOK_SHARE = 10
_REST_SECONDS = 30.0
# Newcomers that one statement places.
_AT_ONCE = 2_000
# A catalogue of fewer tracks needs no map.
_FEWEST = 20
# Share of new and withdrawn tracks at which the whole map is laid out again.
_UNSETTLED = 0.05
# Seconds after a failed layout until the next is tried.
_AFTER_FAILURE = 300.0
# The partition whose owner keeps the map: of several workers there is one.
_OWNERS_PARTITION = 0


class MapKeeper:
    """Runs beside a worker's other tasks; lost work is done again.

    Args:
        pool: The store.
        store: How the layout's own process reaches it.
        ownership: Of several workers, the owner of partition 0 keeps the map.
        metrics: Layouts are counted.
    """

    def __init__(
        self, pool: asyncpg.Pool, store: StoreSettings, ownership: Ownership, metrics: WorkerMetrics
    ) -> None:
        self._pool = pool
        self._store = store
        self._ownership = ownership
        self._metrics = metrics
        self._seen: MapState | None = None
        self._not_before = 0.0
        self._version: int | None = None
        # The version of the lists up to which there is nothing left to do. A version counts before its lists are committed,
        # so it has to have been there at two looks, and a look comes now and then all the same.
        self._done_at: int | None = None
        self._look_by = 0.0

    async def run(self) -> None:
        """Look again and again, until cancelled. Newcomers are placed while a layout is computed, too."""
        layout: asyncio.Task[None] | None = None
        try:
            while True:
                began = time.monotonic()
                if _OWNERS_PARTITION in self._ownership:
                    try:
                        due = await self._look()
                    except StoreUnavailableError as error:
                        log.warning("the map waits for Postgres", error=str(error))
                    else:
                        if due and (layout is None or layout.done()):
                            layout = asyncio.create_task(self._lay_out(), name="map layout")
                took = time.monotonic() - began
                await asyncio.sleep(max(LOOK_SECONDS, _LOOK_SHARE * took))
        finally:
            if layout is not None:
                layout.cancel()
                await asyncio.gather(layout, return_exceptions=True)

    async def _look(self) -> bool:
        """Place newcomers; return whether all is to be laid out anew."""
        version = await map_positions.fetch_version(self._pool)
        same, self._version = version == self._version, version
        if version == self._done_at and time.monotonic() < self._look_by:
            return False
        state = await map_positions.fetch_state(self._pool)
        before, self._seen = self._seen, state
        if state.lists < _FEWEST:
            return False
        if state.settled:
            while await map_positions.place_newcomers(self._pool, _AT_ONCE) == _AT_ONCE:
                pass
        # A catalogue that is being filled is laid out when it stands still.
        still = before is not None and before.tracks == state.tracks
        due = self._due(state)
        if same and still and not due:
            self._done_at, self._look_by = version, time.monotonic() + _REST_SECONDS
        return still and due and time.monotonic() >= self._not_before

    @staticmethod
    def _due(state: MapState) -> bool:
        unsettled = state.lists - state.settled + 2 * state.gone
        return not state.settled or unsettled > _UNSETTLED * state.lists

    async def _lay_out(self) -> None:
        try:
            status: int | str = await self._run_layout()
        except OSError as error:
            status = str(error)
        self._metrics.map_layouts.labels("failed" if status else "done").inc()
        if status:
            self._not_before = time.monotonic() + _AFTER_FAILURE
            log.warning("the map could not be laid out; what is there stays", status=status)

    async def _run_layout(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "streams.maintenance.map_refresh",
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that the worker is gone
            env=os.environ | {"MESS_DATABASE_URL": self._store.dsn},
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

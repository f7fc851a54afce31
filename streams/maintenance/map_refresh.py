"""`python -m streams.maintenance.map_refresh`: compute the map's layout from the stored lists, once, and end.

A worker starts it, in a process of its own at the lowest priority, as a layout takes a processor for seconds or minutes.
Where Postgres is, it is told by MESS_DATABASE_URL.
"""

import asyncio
import os
import signal
import sys
import threading
import time

import numpy as np
import structlog

from store import map_positions
from store.map_positions import MapGraph, rows_of
from store.pool import open_pool
from store.settings import StoreSettings
from streams.engine.map_layout import NEIGHBOURS, Floats, PrincipalPlane, lay_out, turned_onto

log = structlog.get_logger(__name__)

_SAMPLE = 5_000
# Vectors that are held at a time.
_CHUNK = 20_000


async def _start(pool: map_positions.Pool, graph: MapGraph) -> Floats:
    """Where each track begins: its place on the map, else that of the principal components."""
    if graph.placed.all():
        return graph.places
    keys = graph.keys
    plane = PrincipalPlane(await map_positions.read_vectors(pool, keys[:: max(1, len(keys) // _SAMPLE)]))
    parts = [
        plane.places(await map_positions.read_vectors(pool, keys[at : at + _CHUNK]))
        for at in range(0, len(keys), _CHUNK)
    ]
    return np.concatenate(parts)


async def refresh_map(store: StoreSettings) -> int:
    """Lay the whole catalogue out and store the places; return how many."""
    began = time.monotonic()
    pool = await open_pool(store, application_name="mess-map")
    try:
        graph = await map_positions.read_graph(pool, NEIGHBOURS - 1)
        if len(graph.keys) < NEIGHBOURS:
            return 0
        # Most of a catalogue that has a map keeps its places; a newcomer's place is already among its neighbours.
        again = bool(graph.placed.mean() > 0.5)
        start = await _start(pool, graph) if not again else _completed(graph)
        places = lay_out(rows_of(graph.keys, graph.neighbours), graph.scores, start, again=again)
        if again:
            places = turned_onto(places, graph.places, graph.placed)
        await map_positions.write_layout(pool, graph.keys, places)
    finally:
        await pool.close()
    log.info(
        "the map is laid out", tracks=len(graph.keys), again=again, seconds=round(time.monotonic() - began, 1)
    )
    return len(graph.keys)


def _completed(graph: MapGraph) -> Floats:
    """The places, those that are missing in the middle: they have no neighbour on the map yet."""
    middle = graph.places[graph.placed].mean(axis=0)
    return np.where(graph.placed[:, None], graph.places, middle).astype(np.float32)


def _end_with_the_worker() -> None:
    """Wait for the end of standard input, which the worker holds open as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    os.nice(19)
    # Ctrl-C reaches the whole process group; the worker decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    asyncio.run(refresh_map(StoreSettings()))

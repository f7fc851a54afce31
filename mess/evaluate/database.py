"""Reads a running store for an evaluation: vectors, facts and lists in one snapshot, and the listening."""

import asyncpg

from mess.evaluate import listening, works
from mess.evaluate.listening import SimulatedListening
from mess.evaluate.works import Works
from store import facts, layouts, lists, popularity
from store.pool import require_schema, snapshot
from streams.strategies import hubs
from streams.strategies.aspects import Layout


async def read_catalogue(pool: asyncpg.Pool) -> tuple[Works, SimulatedListening | None] | None:
    """The store's catalogue and its listening, if there has been any; None before its first track.

    Memory: the vectors, the lists, and the facts of every track.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is missing or another version's.
    """
    await require_schema(pool)
    async with snapshot(pool) as connection:
        layout = await layouts.read_layout(connection)
        if layout is None:
            return None
        vectors = await lists.read_track_vectors(connection, layout.dimension)
        if not vectors.track_ids:
            return None
        known = await facts.read_facts(connection, works.READ)
        stored = await lists.read_lists(connection)
    made, keys = works.works_of_store(vectors, known, stored, hubs.NEIGHBOURS, Layout.of_rows(*layout))
    heard = await popularity.read_popularity(pool)
    return made, listening.listening_of_store(heard, keys)

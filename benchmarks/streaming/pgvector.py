"""pgvector as a contestant: a table with an HNSW index, in a Postgres of its own."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import asyncpg
import numpy as np
import psutil

from benchmarks import processes
from benchmarks.maintenance_peers import BUILD_WIDTH, LINKS, SEARCH_WIDTH, encode_vector
from benchmarks.streaming.protocols import Numbers, StreamingProtocol
from streams.engine.types import Vectors

_SEARCH = """
SELECT q.at, near.tag FROM unnest($1::vector[]) WITH ORDINALITY AS q (vector, at), LATERAL (
    SELECT tag FROM items ORDER BY items.vector <#> q.vector LIMIT $2
) AS near
"""


class PgvectorTable:
    """The table, reached by one connection. Iterative scans go on where deleted rows leave too few."""

    def __init__(self, protocol: StreamingProtocol) -> None:
        self._stack = contextlib.ExitStack()
        facts = self._stack.enter_context(processes.services("--broker=none"))
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(asyncpg.connect(facts["admin_url"], command_timeout=3_600))
        self._run(self._prepare(protocol.vectors.shape[1]))
        backend = psutil.Process(self._run(self._connection.fetchval("SELECT pg_backend_pid()")))
        self._postmaster = backend.parent()

    async def _prepare(self, dimension: int) -> None:
        await self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await self._connection.execute(
            f"CREATE TABLE items (tag bigint PRIMARY KEY, vector vector({dimension}) NOT NULL)"
        )
        await self._connection.execute(
            "CREATE INDEX ON items USING hnsw (vector vector_ip_ops) "
            f"WITH (m = {LINKS}, ef_construction = {BUILD_WIDTH})"
        )
        await self._connection.execute(
            f"SET hnsw.ef_search = {SEARCH_WIDTH}; SET hnsw.iterative_scan = strict_order; SET enable_seqscan = off"
        )
        await self._connection.set_type_codec("vector", encoder=bytes, decoder=bytes, format="binary")

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def beside(self) -> list[psutil.Process]:
        """See `Contestant`."""
        postmaster = self._postmaster
        return [] if postmaster is None else [postmaster, *postmaster.children(recursive=True)]

    def insert(self, tags: Numbers, vectors: Vectors) -> None:
        """See `Contestant`."""
        self.delete(tags)
        records = list(zip(tags.tolist(), map(encode_vector, vectors), strict=True))
        self._run(self._connection.copy_records_to_table("items", records=records))

    def delete(self, tags: Numbers) -> None:
        """See `Contestant`."""
        self._run(self._connection.execute("DELETE FROM items WHERE tag = ANY($1::bigint[])", tags.tolist()))

    def search(self, queries: Vectors, count: int) -> Numbers:
        """See `Contestant`."""
        found = np.full((len(queries), count), -1, dtype=np.int64)
        filled = np.zeros(len(queries), dtype=np.int64)
        # asyncpg takes an array of arrays for one of two dimensions.
        encoded = [encode_vector(query) for query in queries]
        for at, tag in self._run(self._connection.fetch(_SEARCH, encoded, count)):
            found[at - 1, filled[at - 1]] = tag
            filled[at - 1] += 1
        return found

    def close(self) -> None:
        """See `Contestant`."""
        self._run(self._connection.close())
        self._loop.close()
        self._stack.close()

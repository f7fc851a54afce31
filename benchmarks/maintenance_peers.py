"""Peers of the engine, measured in the same run: hnswlib and pgvector, each with the share of lists it leaves wrong."""

import time
from dataclasses import dataclass

import asyncpg
import numpy as np

from benchmarks import machine
from benchmarks.engine_rates import BATCH, SyntheticTracks
from benchmarks.sizes import CatalogueSize
from streams.engine.audit import AuditFindings, Auditor
from streams.engine.types import StoredLists, no_events

# The usual parameters of both libraries' manuals; `ef` twice the list's length.
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 16, 200, 100
LIST = 50
PGVECTOR_EVENTS = 512
PGVECTOR_QUERIES = 500


@dataclass(frozen=True, slots=True)
class MaintenancePeer:
    """What was measured of a peer: `note` says how its lists came about."""

    name: str
    rate: float
    findings: AuditFindings
    load: str
    note: str


def hnswlib_peer(size: CatalogueSize, tracks: SyntheticTracks, lists: StoredLists) -> MaintenancePeer:
    """Insert with hnswlib, and query again the lists of each newcomer's own top 50.

    Raises:
        ImportError: It is not installed.
    """
    import hnswlib  # noqa: PLC0415 - one may not have it

    end = size.tracks + size.events
    index = hnswlib.Index(space="ip", dim=size.dimension)
    index.init_index(max_elements=end, M=LINKS, ef_construction=BUILD_WIDTH)
    index.set_ef(SEARCH_WIDTH)
    index.add_items(tracks.vectors[: size.tracks], np.arange(size.tracks))
    neighbours = np.zeros((end, LIST), dtype=np.int64)
    scores = np.zeros((end, LIST), dtype=np.float32)
    neighbours[: size.tracks], scores[: size.tracks] = lists.neighbours, lists.scores

    def query(rows: np.ndarray) -> np.ndarray:
        found, distances = index.knn_query(tracks.vectors[rows], k=LIST + 1)
        others = _without_self(found.astype(np.int64), rows)
        neighbours[rows] = tracks.keys[np.take_along_axis(found.astype(np.int64), others, axis=1)]
        scores[rows] = 1 - np.take_along_axis(distances, others, axis=1)
        return np.take_along_axis(found.astype(np.int64), others, axis=1)

    began = time.perf_counter()
    for start in range(size.tracks, end, BATCH):
        rows = np.arange(start, min(start + BATCH, end))
        index.add_items(tracks.vectors[rows], rows)
        affected = np.unique(query(rows))
        query(np.setdiff1d(affected, rows))
    took = time.perf_counter() - began
    held = StoredLists(tracks.keys[:end], neighbours, scores, np.full(end, LIST), no_events())
    findings = tracks.findings(held, end, size.audited)
    note = "add, own query, then the lists of the own top 50 queried again"
    return MaintenancePeer("hnswlib", size.events / took, findings, machine.load_average(), note)


def _without_self(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns of the first 50 results that are not the track itself, (m, 50)."""
    return np.argsort(found == rows[:, None], axis=1, kind="stable")[:, :LIST]


def encode_vector(vector: np.ndarray) -> bytes:
    """A vector in pgvector's binary form: dimension, an unused word, float32, big-endian."""
    return len(vector).to_bytes(2, "big") + bytes(2) + vector.astype(">f4").tobytes()


async def pgvector_peer(size: CatalogueSize, tracks: SyntheticTracks, admin_url: str) -> MaintenancePeer:
    """Insert into a table with an HNSW index; lists are what a query gives when read."""
    connection = await asyncpg.connect(admin_url, command_timeout=300)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute("DROP TABLE IF EXISTS bench_vectors")
        await connection.execute(
            f"CREATE TABLE bench_vectors (key bigint PRIMARY KEY, embedding vector({size.dimension}) NOT NULL)"
        )
        await connection.set_type_codec("vector", encoder=encode_vector, decoder=bytes, format="binary")
        await _copy(connection, tracks, 0, size.tracks)
        await connection.execute("SET maintenance_work_mem = '1GB'")
        await connection.execute(
            "CREATE INDEX ON bench_vectors USING hnsw (embedding vector_ip_ops) "
            f"WITH (m = {LINKS}, ef_construction = {BUILD_WIDTH})"
        )
        end = size.tracks + PGVECTOR_EVENTS
        began = time.perf_counter()
        for start in range(size.tracks, end, BATCH):
            await _copy(connection, tracks, start, min(start + BATCH, end))
        took = time.perf_counter() - began
        queried, findings = await _read_lists(connection, tracks, end)
        await connection.execute("DROP TABLE bench_vectors")
    finally:
        await connection.close()
    note = f"inserts alone; a list is a query when read, {queried:,.0f} queries/s on one connection"
    return MaintenancePeer("pgvector HNSW", PGVECTOR_EVENTS / took, findings, machine.load_average(), note)


async def _copy(connection: asyncpg.Connection, tracks: SyntheticTracks, start: int, stop: int) -> None:
    records = zip(tracks.keys[start:stop].tolist(), tracks.vectors[start:stop], strict=True)
    await connection.copy_records_to_table("bench_vectors", records=records)


async def _read_lists(
    connection: asyncpg.Connection, tracks: SyntheticTracks, count: int
) -> tuple[float, AuditFindings]:
    """Queries a second, and what a sample of the lists is worth."""
    await connection.execute(f"SET hnsw.ef_search = {SEARCH_WIDTH}")
    rows = np.random.default_rng(4).choice(count, PGVECTOR_QUERIES, replace=False)
    statement = await connection.prepare(
        f"SELECT key FROM bench_vectors ORDER BY embedding <#> $1 LIMIT {LIST + 1}"  # noqa: S608 - a constant
    )
    neighbours = np.zeros((len(rows), LIST), dtype=np.int64)
    lengths = np.zeros(len(rows), dtype=np.int64)
    began = time.perf_counter()
    for i, row in enumerate(rows.tolist()):
        found = [key for (key,) in await statement.fetch(tracks.vectors[row]) if key != tracks.keys[row]]
        lengths[i] = len(found[:LIST])
        neighbours[i, : lengths[i]] = found[:LIST]
    rate = len(rows) / (time.perf_counter() - began)
    scores = np.zeros(neighbours.shape, dtype=np.float32)
    held = StoredLists(tracks.keys[rows], neighbours, scores, lengths, no_events())
    auditor = Auditor(tracks.keys[:count], tracks.names[:count], tracks.vectors[:count])
    return rate, auditor.check_all(rows, held)

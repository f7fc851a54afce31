"""Compares every stored list with brute force over the stored catalogue."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import numpy as np

from store import layouts, lists
from store.pool import require_schema, snapshot
from store.rows import ListRows
from streams.engine.audit import AuditFindings, Auditor
from streams.engine.types import StoredLists, no_events


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit of a store found, all of it in one snapshot.

    Attributes:
        tracks: Tracks in the catalogue.
        lists: Lists stored.
        orphans: Of these, lists of no track.
        findings: Of the lists that were audited.
    """

    tracks: int
    lists: int
    orphans: int
    findings: AuditFindings


async def audit_store(
    pool: asyncpg.Pool,
    *,
    size: int = 50,
    sample: int | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> AuditReport:
    """Recompute lists exactly and compare the stored ones with them.

    Memory: the catalogue's vectors, one block of their product (64 MiB), and that block's lists.

    Args:
        pool: The store.
        size: How many neighbours a full list holds.
        sample: How many lists to audit, drawn at random; all of them if None.
        show: Called with the number of audited lists and of all.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is missing or another version's.
    """
    await require_schema(pool)
    async with snapshot(pool) as connection:
        stored, orphans = await lists.count_lists(connection)
        dimension = await layouts.read_dimension(connection)
        if dimension is None:
            return AuditReport(0, stored, orphans, AuditFindings())
        found = await lists.read_track_vectors(connection, dimension)
        auditor = await asyncio.to_thread(Auditor, found.keys, found.track_ids, found.vectors, size)
        chosen = np.arange(len(found.keys))
        if sample is not None and sample < len(chosen):
            chosen = np.random.default_rng().choice(len(chosen), sample, replace=False)
        findings = AuditFindings()
        for start in range(0, len(chosen), auditor.block_rows):
            block = chosen[start : start + auditor.block_rows]
            rows = await lists.read_lists_of(connection, found.keys[block])
            findings += await asyncio.to_thread(auditor.check, block, stored_as_engine_lists(rows))
            show(findings.tracks, len(chosen))
    return AuditReport(len(found.keys), stored, orphans, findings)


def stored_as_engine_lists(rows: ListRows) -> StoredLists:
    """The store's lists in the form of the engine and the auditor."""
    return StoredLists(rows.keys, rows.neighbours, rows.scores, rows.lengths, no_events())

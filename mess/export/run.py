"""One export: wait for the point, read the snapshot, write the file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from mess.export.files import export_file, translated_write_errors
from mess.export.names import ExportFormat, ExportKind
from mess.export.pages import export_pages
from mess.export.point import ExportPoint, export_snapshot
from store import exports
from store.exports import ExportShape
from streams.kafka.topics import TRACK_INGEST, TRACK_INTERACTIONS


@dataclass(frozen=True)
class ExportOrder:
    """What is wanted.

    Attributes:
        kind: What to export.
        form: How to write it.
        path: Where to; None for standard output.
        at: By partition, an offset whose event must be in.
        wait: Seconds to wait for that.
        unsettled: Whether lists may be at different points.
    """

    kind: ExportKind
    form: ExportFormat
    path: Path | None
    at: Mapping[int, int]
    wait: float
    unsettled: bool = False


async def export_store(
    pool: asyncpg.Pool, order: ExportOrder, show: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Export; returns what the file says that it is of, and `rows`.

    Memory: a page of rows, and of lists some hundred bytes a track.

    Raises:
        PointNotReachedError: The store has not come to the point in time.
        MissingLibraryError: The format needs a package.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is missing or another version's.
        ExportFileError: The file cannot be written.
    """
    async with export_snapshot(pool, order.kind, at=order.at, wait=order.wait, unsettled=order.unsettled) as (
        connection,
        point,
    ):
        shape = await exports.read_export_shape(connection)
        total: int = getattr(shape, order.kind.value)
        snapshot = _described(order.kind, point, shape, total)
        written = 0
        with export_file(order.path, order.form, order.kind, shape, snapshot) as file:
            async for page in export_pages(connection, order.kind, shape):
                with translated_write_errors(order.path):
                    await asyncio.to_thread(file.add, page)
                written = min(total, written + exports.PAGE)
                show(written, total)
    return snapshot


def _described(kind: ExportKind, point: ExportPoint, shape: ExportShape, rows: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": kind.value,
        "rows": rows,
        "topic": TRACK_INTERACTIONS if kind is ExportKind.POPULARITY else TRACK_INGEST,
        "next_offsets": {str(partition): offset for partition, offset in sorted(point.offsets.items())},
        "taken_at": shape.taken_at,
    }
    if kind is ExportKind.LISTS:
        told["settled"] = not point.absorbed
        told["version"] = shape.version
    if point.absorbed:
        told["absorbed"] = {
            str(owner): {str(source): offset for source, offset in sorted(sources.items())}
            for owner, sources in sorted(point.absorbed.items())
        }
    return told

"""Pages of what is exported: as JSON objects, as columns of a table, and as arrays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson
from asyncpg.pool import PoolConnectionProxy

from mess.export.names import ExportKind
from store import exports
from store.columns import METADATA_FIELDS
from store.exports import ExportShape, ListPage
from streams.metadata_fields import LIST_FIELDS, METADATA, FieldKind
from streams.strategies.aspects import Layout

Columns = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

_FIRST: Final = 1 + len(METADATA_FIELDS)


class ExportPage(Protocol):
    """Some rows of an export, in every form that a file may want."""

    def objects(self) -> list[dict[str, Any]]:
        """Each as a JSON object; numpy's numbers may stand in it."""

    def columns(self) -> Columns:
        """As columns of a table, each a sequence or an array with a row for each."""

    def arrays(self) -> Arrays:
        """As arrays with a row for each."""


@dataclass(frozen=True, slots=True)
class _Lists:
    page: ListPage
    keys: npt.NDArray[np.int64]
    names: npt.NDArray[np.object_]
    shape: ExportShape

    def _rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Of each list the rows of its neighbours in the export (m, k), scores (m, k), and how many count (m,).

        What names a track that has been withdrawn is left out, and what is behind it moves up.
        """
        held = self.page.neighbours.shape[1]
        at = np.searchsorted(self.keys, self.page.neighbours)
        known = np.arange(held) < self.page.lengths[:, None]
        known &= self.keys[np.minimum(at, len(self.keys) - 1)] == self.page.neighbours
        order = np.argsort(~known, axis=1, kind="stable")
        return (
            np.take_along_axis(at, order, axis=1),
            np.take_along_axis(self.page.scores, order, axis=1),
            known.sum(axis=1),
        )

    def _named(self) -> tuple[list[list[str]], list[npt.NDArray[np.float32]]]:
        """Ids and scores of each list."""
        at, scores, lengths = self._rows()
        counts = lengths.tolist()
        named = self.names[np.minimum(at, len(self.names) - 1)]
        return (
            [row[:count].tolist() for row, count in zip(named, counts, strict=True)],
            [row[:count] for row, count in zip(scores, counts, strict=True)],
        )

    def columns(self) -> Columns:
        ids, scores = self._named()
        versions, partitions, offsets, event_times, generated_at = self.page.rest
        return {
            "track_id": self.page.track_ids,
            "neighbours": ids,
            "scores": scores,
            "version": versions,
            "source_partition": partitions,
            "source_offset": offsets,
            "event_time": event_times,
            "generated_at": generated_at,
        }

    def objects(self) -> list[dict[str, Any]]:
        columns = self.columns()
        return [
            {
                "track_id": track_id,
                "version": version,
                "recommendations": [
                    {"track_id": name, "score": score} for name, score in zip(ids, scores, strict=True)
                ],
                "source": {"partition": partition, "offset": offset, "event_time": event_time},
                "generated_at": generated_at,
            }
            for track_id, ids, scores, version, partition, offset, event_time, generated_at in zip(
                *columns.values(), strict=True
            )
        ]

    def arrays(self) -> Arrays:
        at, rated, lengths = self._rows()
        count, held = at.shape
        kept = np.arange(held) < lengths[:, None]
        neighbours = np.full((count, self.shape.width), -1, dtype=np.int32)
        scores = np.full((count, self.shape.width), np.nan, dtype=np.float32)
        neighbours[:, :held][kept] = at[kept]
        scores[:, :held][kept] = rated[kept]
        return {
            "track_ids": _texts(self.page.track_ids, self.shape),
            "neighbours": neighbours,
            "scores": scores,
            "lengths": lengths.astype(np.int32),
            "versions": np.array(self.page.rest[0], dtype=np.int64),
        }


@dataclass(frozen=True, slots=True)
class _Tracks:
    rows: list[Any]
    shape: ExportShape

    def _vectors(self) -> npt.NDArray[np.float32]:
        joined = b"".join(row["embedding"] for row in self.rows)
        return np.frombuffer(joined, dtype="<f4").reshape(len(self.rows), -1).astype(np.float32)

    def columns(self) -> Columns:
        names = ("track_id", *METADATA_FIELDS)
        told = dict(zip(names, zip(*(row[:_FIRST] for row in self.rows), strict=True), strict=True))
        rest = zip(*(row[_FIRST + 1 :] for row in self.rows), strict=True)
        return {
            **told,
            "extra": [orjson.dumps(each).decode() for each in told["extra"]],
            "embedding": self._vectors(),
            **dict(zip(_WRITTEN, rest, strict=True)),
        }

    def objects(self) -> list[dict[str, Any]]:
        layout = Layout.of_rows(self.shape.dimension or 0, self.shape.aspects or [])
        return [
            {
                "track_id": row["track_id"],
                "embedding": layout.split(vector) if layout.aspects else vector,
                **({} if self.shape.model is None else {"model": self.shape.model}),
                # As it travels in an event: what is not known is left out.
                "metadata": {
                    name: value
                    for name, value in zip(METADATA_FIELDS, row[1:_FIRST], strict=True)
                    if value not in (None, [], {})
                },
                "event_time": row["event_time"],
            }
            for row, vector in zip(self.rows, self._vectors(), strict=True)
        ]

    def arrays(self) -> Arrays:
        return {
            "track_ids": _texts([row["track_id"] for row in self.rows], self.shape),
            "embeddings": self._vectors(),
        }


_WRITTEN: Final = ("source_partition", "source_offset", "event_time", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class _Popularity:
    rows: list[Any]
    shape: ExportShape

    def columns(self) -> Columns:
        names = ("track_id", "value", "count", "reference")
        return dict(zip(names, zip(*self.rows, strict=True), strict=True))

    def objects(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]

    def arrays(self) -> Arrays:
        ids, values, counts, references = zip(*self.rows, strict=True)
        return {
            "track_ids": _texts(list(ids), self.shape),
            "values": np.array(values, dtype=np.float64),
            "counts": np.array(counts, dtype=np.float64),
            "references": np.array([each.timestamp() for each in references], dtype=np.float64),
        }


def _texts(texts: list[str], shape: ExportShape) -> npt.NDArray[np.str_]:
    return np.array(texts, dtype=f"<U{shape.longest_id}")


async def export_pages(
    connection: PoolConnectionProxy, kind: ExportKind, shape: ExportShape
) -> AsyncIterator[ExportPage]:
    """What a snapshot holds, page after page."""
    if kind is ExportKind.LISTS:
        keys, names = await exports.read_listed_names(connection)
        async for page in exports.list_pages(connection):
            yield _Lists(page, keys, names, shape)
    elif kind is ExportKind.TRACKS:
        async for rows in exports.track_pages(connection):
            yield _Tracks(rows, shape)
    else:
        async for rows in exports.popularity_pages(connection):
            yield _Popularity(rows, shape)


def arrow_schema(pa: Any, kind: ExportKind, shape: ExportShape) -> Any:
    """The schema of a table of this kind; `pa` is pyarrow."""
    moment, text = pa.timestamp("us", tz="UTC"), pa.string()
    event = {"source_partition": pa.int32(), "source_offset": pa.int64(), "event_time": moment}
    fields: dict[ExportKind, Callable[[], dict[str, Any]]] = {
        ExportKind.LISTS: lambda: {
            "track_id": text,
            "neighbours": pa.list_(text),
            "scores": pa.list_(pa.float32()),
            "version": pa.int64(),
            **event,
            "generated_at": moment,
        },
        ExportKind.TRACKS: lambda: {
            "track_id": text,
            **_metadata_types(pa),
            "extra": text,
            "embedding": pa.list_(pa.float32(), shape.dimension or 0),
            **event,
            "created_at": moment,
            "updated_at": moment,
        },
        ExportKind.POPULARITY: lambda: {
            "track_id": text,
            "value": pa.float64(),
            "count": pa.float64(),
            "reference": moment,
        },
    }
    return pa.schema(list(fields[kind]().items()))


def _metadata_types(pa: Any) -> dict[str, Any]:
    numbers = {FieldKind.YEAR: pa.int32(), FieldKind.SECONDS: pa.float64(), FieldKind.NUMBER: pa.float64()}
    return {
        field.name: pa.list_(pa.string())
        if field.name in LIST_FIELDS
        else numbers.get(field.kind, pa.string())
        for field in METADATA
    }


def empty_arrays(kind: ExportKind, shape: ExportShape) -> Arrays:
    """Arrays of no rows, of the types that pages have."""
    none: list[Any] = []
    ids = _texts([], shape)
    number = np.array(none, dtype=np.float64)
    return {
        ExportKind.LISTS: {
            "track_ids": ids,
            "neighbours": np.empty((0, shape.width), dtype=np.int32),
            "scores": np.empty((0, shape.width), dtype=np.float32),
            "lengths": np.array(none, dtype=np.int32),
            "versions": np.array(none, dtype=np.int64),
        },
        ExportKind.TRACKS: {
            "track_ids": ids,
            "embeddings": np.empty((0, shape.dimension or 0), dtype=np.float32),
        },
        ExportKind.POPULARITY: {"track_ids": ids, "values": number, "counts": number, "references": number},
    }[kind]

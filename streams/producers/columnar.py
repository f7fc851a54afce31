"""Rows of Parquet and Arrow files, batch by batch: a file of any size in bounded memory."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.producers.arrays import VECTOR_NAMES
from streams.producers.columns import ColumnMap
from streams.producers.compressed import kind_of
from streams.producers.extras import import_extra
from streams.producers.items import SourceError
from streams.producers.report import SourceReport
from streams.producers.row_files import BATCH, RowBatch

PARQUET_KINDS: Final = frozenset({".parquet", ".pq"})
# The columns of a vector that has one for each component: `f0`, `f1`, ...
_NUMBERED: Final = re.compile(r"(.*?)[_.\-]?(\d+)", re.ASCII)
_FEWEST_COMPONENTS: Final = 2
# pyarrow reads pages through a buffer of this size instead of a row group's whole column.
_READ_BYTES: Final = 1024 * 1024


class ColumnarFile:
    """A Parquet, Feather or Arrow file with a row a track.

    Args:
        path: the file.
        vector: the column of vectors; None: the only likely one.
        wanted: field to column, as `--map` says.

    Raises:
        SourceError: it cannot be read, or the column of vectors or of ids cannot be told.
    """

    def __init__(
        self, path: Path, *, vector: str | None = None, wanted: Mapping[str, str] | None = None
    ) -> None:
        self._pa = import_extra("pyarrow", f"{path.suffix} files")
        self.name = str(path)
        self._path = path
        schema, self.count = self._open()
        self._parts = self._vector_parts(schema, vector)
        others = [name for name in schema.names if name not in self._parts]
        self._columns = ColumnMap(others, wanted)
        if not self._columns.names_tracks:
            raise SourceError(
                f"{path} has no column that names a track; its columns are {', '.join(schema.names)}: "
                "say which with --map track_id=COLUMN"
            )
        self._others = others

    def _open(self) -> tuple[Any, int]:
        try:
            if kind_of(self._path) in PARQUET_KINDS:
                with self._parquet() as file:
                    return file.schema_arrow, file.metadata.num_rows
            with self._arrow() as reader:
                return reader.schema, self._arrow_rows(reader)
        except (OSError, self._pa.ArrowException) as exc:
            raise SourceError(f"{self._path} cannot be read: {exc}") from exc

    def _parquet(self) -> Any:
        parquet = import_extra("pyarrow.parquet", "Parquet files")
        return parquet.ParquetFile(self._path, pre_buffer=False, buffer_size=_READ_BYTES)

    def _arrow(self) -> Any:
        """Open a file of Arrow's format with random access (Feather 2 is one), or else a stream."""
        source = self._pa.memory_map(str(self._path))
        try:
            return self._pa.ipc.open_file(source)
        except self._pa.ArrowInvalid:
            return self._pa.ipc.open_stream(self._pa.memory_map(str(self._path)))

    def _arrow_rows(self, reader: Any) -> int:
        if hasattr(reader, "num_record_batches"):
            return sum(reader.get_batch(at).num_rows for at in range(reader.num_record_batches))
        return sum(batch.num_rows for batch in reader)

    def _vector_parts(self, schema: Any, wanted: str | None) -> list[str]:
        """Return the column of vectors, or those of their components."""
        types = self._pa.types
        listed = [field.name for field in schema if _is_list_of_floats(field.type, types)]
        if wanted is not None:
            if wanted not in schema.names:
                raise SourceError(f"{self._path} has no column {wanted!r}; it has {', '.join(schema.names)}")
            if wanted not in listed:
                kind = schema.field(wanted).type
                raise SourceError(f"{self._path}: column {wanted} holds {kind}, not lists of floats")
            return [wanted]
        likely = [name for name in listed if name.casefold() in VECTOR_NAMES] or listed
        if len(likely) == 1:
            return likely
        if len(likely) > 1:
            raise SourceError(
                f"{self._path} has several columns of vectors ({', '.join(likely)}): say which with --key"
            )
        return self._numbered(schema)

    def _numbered(self, schema: Any) -> list[str]:
        groups: dict[str, list[tuple[int, str]]] = {}
        for field in schema:
            if self._pa.types.is_floating(field.type) and (found := _NUMBERED.fullmatch(field.name)):
                groups.setdefault(found[1], []).append((int(found[2]), field.name))
        whole = []
        for members in groups.values():
            members.sort()
            numbers = [number for number, _ in members]
            in_order = numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] in (0, 1)
            if in_order and len(numbers) >= _FEWEST_COMPONENTS:
                whole.append([name for _, name in members])
        if len(whole) != 1:
            raise SourceError(
                f"{self._path} has no column of lists of floats, and no columns numbered from 0 or 1; "
                f"its columns are {', '.join(schema.names[:20])}"
            )
        return whole[0]

    def batches(self, skip: int) -> Iterator[RowBatch]:
        """Yield rows; skipped ones are read and discarded."""
        try:
            for batch in self._read():
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                rest = batch.slice(skip) if skip else batch
                skip = 0
                for start in range(0, rest.num_rows, BATCH):
                    yield self._rows(rest.slice(start, BATCH))
        except (OSError, self._pa.ArrowException) as exc:
            raise SourceError(f"{self._path} cannot be read: {exc}") from exc

    def _read(self) -> Iterator[Any]:
        if kind_of(self._path) in PARQUET_KINDS:
            with self._parquet() as file:
                yield from file.iter_batches(batch_size=BATCH)
            return
        with self._arrow() as reader:
            if hasattr(reader, "num_record_batches"):
                yield from (reader.get_batch(at) for at in range(reader.num_record_batches))
            else:
                yield from reader

    def _rows(self, batch: Any) -> RowBatch:
        rows = batch.select(self._others).to_pylist()
        return RowBatch(
            [next(iter(self._columns.names(row)), None) for row in rows],
            self._arrays(batch),
            [self._columns.facts(row) for row in rows],
        )

    def _arrays(self, batch: Any) -> Sequence[npt.NDArray[Any] | None]:
        if len(self._parts) > 1:
            return list(
                np.column_stack([batch.column(name).to_numpy(zero_copy_only=False) for name in self._parts])
            )
        return _arrays_of(batch.column(self._parts[0]), self._pa)

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield the shapes of the first batch's arrays."""
        for batch in self.batches(0):
            yield from (array.shape for array in batch.arrays if array is not None)
            return

    def describe(self, report: SourceReport) -> None:
        """Report which columns are the vector, and the use of the others."""
        if len(self._parts) > 1:
            report.note(f"the vector is columns {self._parts[0]} to {self._parts[-1]}")
        if self._columns.preset is not None:
            report.note(f"the columns were read as {self._columns.preset.name}'s")
        report.columns = dict(self._columns.fields)
        report.extra_columns = list(self._columns.extra)


def _is_list_of_floats(kind: Any, types: Any) -> bool:
    """Whether a type is lists of floats, or lists of such lists, of any of Arrow's kinds of list."""
    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth > 0 and types.is_floating(kind)


def _arrays_of(column: Any, pa: Any) -> list[npt.NDArray[Any] | None]:
    """Return each row's list as an array; None where it is null or has gaps.

    Rows of one length, as embeddings are, are views of one block.
    """
    inner = column.type.value_type
    if pa.types.is_floating(inner) and not column.null_count:
        flat = column.flatten()
        if not flat.null_count and len(column) and len(flat) % len(column) == 0:
            compute = import_extra("pyarrow.compute", "Parquet files")
            width = len(flat) // len(column)
            if compute.all(compute.equal(compute.list_value_length(column), width)).as_py():
                return list(flat.to_numpy(zero_copy_only=False).reshape(len(column), width))
    return [_one_array(value) for value in column.to_pylist()]


def _one_array(value: Any) -> npt.NDArray[Any] | None:
    if not value:
        return None
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None  # a null within, or rows of different lengths

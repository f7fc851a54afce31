"""The files of an export. Each is complete under its name or not there at all."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from mess.export.names import ExportFormat, ExportKind
from mess.export.pages import Arrays, ExportPage, arrow_schema, empty_arrays
from store.exports import ExportShape

# Under which a file says what it is of.
SNAPSHOT_KEY: Final = "mess.snapshot"
_JSON: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z
_COPY_BYTES: Final = 1024 * 1024


class MissingLibraryError(Exception):
    """A format needs a package that is not installed."""


class ExportFileError(Exception):
    """The file cannot be written; says why.

    Attributes:
        reader_gone: Whether whoever read it has closed the pipe.
    """

    def __init__(self, path: Path | None, error: OSError) -> None:
        # pyarrow's own words name the file that is written to meanwhile.
        reason = os.strerror(error.errno) if error.errno else error.strerror or error
        super().__init__(f"{path or 'standard output'} cannot be written: {reason}")
        self.reader_gone = isinstance(error, BrokenPipeError)


class ExportFile(Protocol):
    """Takes pages, and is complete once it is finished."""

    def add(self, page: ExportPage) -> None:
        """Write some rows."""

    def finish(self) -> None:
        """Write what comes at the end, and close."""

    def discard(self) -> None:
        """Let go of everything; of a finished file there is nothing left to."""


@contextlib.contextmanager
def translated_write_errors(path: Path | None) -> Iterator[None]:
    """Around what writes a file.

    Raises:
        ExportFileError: It cannot be written. Inside a transaction an `OSError` would be taken for Postgres's.
    """
    try:
        yield
    except OSError as error:
        raise ExportFileError(path, error) from error


@contextlib.contextmanager
def export_file(
    path: Path | None, form: ExportFormat, kind: ExportKind, shape: ExportShape, snapshot: dict[str, Any]
) -> Iterator[ExportFile]:
    """A file to add pages to, which appears under its name when all is written.

    Args:
        path: Where; None for standard output, which takes JSON lines alone.
        form: How.
        kind: What.
        shape: How large that is.
        snapshot: What the file says that it is of: in its metadata; of JSON lines, in a file beside it.

    Raises:
        MissingLibraryError: The format needs a package.
        ExportFileError: It cannot be written.
    """
    part = None if path is None else path.with_name(f".{path.name}.part")
    with translated_write_errors(path):
        file = _opened(part, form, kind, shape, snapshot)
    try:
        yield file
        with translated_write_errors(path):
            file.finish()
            if path is not None and part is not None:
                if form is ExportFormat.JSONL:
                    said = path.with_name(f"{path.name}.snapshot.json")
                    said.write_bytes(orjson.dumps(snapshot, option=orjson.OPT_INDENT_2 | _JSON))
                os.replace(part, path)  # noqa: PTH105 -- takes the place of what is there, in one step
    finally:
        file.discard()
        if part is not None:
            part.unlink(missing_ok=True)


def _opened(
    part: Path | None, form: ExportFormat, kind: ExportKind, shape: ExportShape, snapshot: dict[str, Any]
) -> ExportFile:
    if part is None:
        return _JsonLines(sys.stdout.buffer)
    if form is ExportFormat.JSONL:
        return _JsonLines(part.open("wb"))
    if form is ExportFormat.NPZ:
        return _Arrays(part, empty_arrays(kind, shape), snapshot)
    return _Parquet(part, kind, shape, snapshot)


class _JsonLines:
    """An object a line."""

    def __init__(self, opened: IO[bytes]) -> None:
        self._opened = opened

    def add(self, page: ExportPage) -> None:
        self._opened.writelines(orjson.dumps(each, option=_JSON) for each in page.objects())

    def finish(self) -> None:
        self._opened.flush()

    def discard(self) -> None:
        if self._opened is not sys.stdout.buffer:
            with contextlib.suppress(OSError):
                self._opened.close()


class _Parquet:
    """A row group a page."""

    def __init__(self, path: Path, kind: ExportKind, shape: ExportShape, snapshot: dict[str, Any]) -> None:
        try:
            self._pa: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise MissingLibraryError(
                "Parquet needs pyarrow, which is not installed: pip install 'mess-ai[files]'"
            ) from None
        schema = arrow_schema(self._pa, kind, shape)
        self._schema = schema.with_metadata({SNAPSHOT_KEY: orjson.dumps(snapshot, option=orjson.OPT_UTC_Z)})
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, page: ExportPage) -> None:
        columns = page.columns()
        made = [self._array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_table(self._pa.Table.from_arrays(made, schema=self._schema))

    def _array(self, column: Any, kind: Any) -> Any:
        if isinstance(column, np.ndarray):
            flat = self._pa.array(column.reshape(-1), type=kind.value_type)
            return self._pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
        return self._pa.array(column, type=kind)

    def finish(self) -> None:
        self._writer.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


class _Arrays:
    """Arrays of unknown length: each is spooled into a file beside, and all are packed at the end."""

    def __init__(self, path: Path, empty: Arrays, snapshot: dict[str, Any]) -> None:
        self._path = path
        self._types = empty
        self._snapshot = snapshot
        self._rows = 0
        self._spool = tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.")
        for name in empty:
            Path(self._spool.name, name).touch()

    def add(self, page: ExportPage) -> None:
        arrays = page.arrays()
        for name, values in arrays.items():
            assert values.dtype == self._types[name].dtype
            with Path(self._spool.name, name).open("ab") as opened:
                opened.write(np.ascontiguousarray(values).data)
        self._rows += len(arrays["track_ids"])

    def finish(self) -> None:
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            said = np.array(orjson.dumps(self._snapshot, option=orjson.OPT_UTC_Z).decode())
            with packed.open("snapshot.npy", "w") as member:
                np.lib.format.write_array(member, said, allow_pickle=False)
            for name, empty in self._types.items():
                with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_header(member, empty, self._rows)
                    with Path(self._spool.name, name).open("rb") as spooled:
                        shutil.copyfileobj(spooled, member, _COPY_BYTES)

    def discard(self) -> None:
        self._spool.cleanup()


def _write_header(member: IO[bytes], empty: npt.NDArray[Any], rows: int) -> None:
    header = np.lib.format.header_data_from_array_1_0(empty)
    np.lib.format.write_array_header_2_0(
        member, {**header, "shape": (rows, *empty.shape[1:]), "fortran_order": False}
    )

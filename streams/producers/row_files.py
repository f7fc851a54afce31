"""Files of many tracks: arrays with ids. Each yields batches of rows, in the file's order."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from streams.producers.arrays import HDF5_KINDS, ID_NAMES, VECTOR_NAMES, ArrayFile, ArrayInfo, texts_of_array
from streams.producers.items import SourceError
from streams.producers.joining import stem_of
from streams.producers.report import SourceReport
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions

BATCH: Final = 1_024


class RowBatch(NamedTuple):
    """Some rows of a file.

    Attributes:
        ids: of the tracks; None where a row has none.
        arrays: of the tracks; None where a row has none.
        facts: of the tracks.
    """

    ids: Sequence[str | None]
    arrays: Sequence[npt.NDArray[Any] | None]
    facts: Sequence[Mapping[str, Any]]


class RowFile(Protocol):
    """A file of many tracks.

    Attributes:
        name: for people.
        count: how many rows it has.
    """

    name: str
    count: int

    def batches(self, skip: int) -> Iterator[RowBatch]:
        """Yield the rows beyond the first `skip`, in order; called once."""

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield shapes of the first tracks' arrays, to tell the axes from."""

    def describe(self, report: SourceReport) -> None:
        """Say in a report how the file is read."""


class MatrixFile:
    """An array whose first axis is the tracks, and the list of their ids.

    Args:
        file: a `.npy`, `.npz` or HDF5 file.
        name: the array's name in it.
        ids: one a row.
        facts: of each row, if the ids came with any.

    Raises:
        SourceError: there are more or fewer ids than rows.
    """

    def __init__(
        self,
        file: ArrayFile,
        name: str,
        ids: Sequence[str],
        facts: Sequence[Mapping[str, Any]] | None = None,
        described: MetadataTable | None = None,
    ) -> None:
        info = next(each for each in file.infos() if each.name == name)
        self.name = str(file.path)
        self.count = info.shape[0]
        if len(ids) != self.count:
            raise SourceError(f"{file.path} has {self.count:,} rows, but there are {len(ids):,} ids")
        self._file = file
        self._array = name
        self._shape = info.shape
        self._ids = ids
        self._facts = facts
        self._described = described

    def batches(self, skip: int) -> Iterator[RowBatch]:
        """Yield rows; of `.npy` and HDF5 each batch is read when its turn comes."""
        with self._file.rows(self._array) as rows:
            for start in range(skip, self.count, BATCH):
                block = np.asarray(rows[start : start + BATCH])
                ids = self._ids[start : start + BATCH]
                facts = self._facts[start : start + BATCH] if self._facts else [{}] * len(ids)
                yield RowBatch(ids, list(block), facts)

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield the one shape that all tracks have."""
        yield self._shape[1:]

    def describe(self, report: SourceReport) -> None:
        """Say what the ids' own table is."""
        if self._described is not None:
            self._described.describe(report)
        report.note(f"each of the {self.count:,} rows is a track")


class MemberFile:
    """A file with an array a track: the track's id is the array's name, or the file's where it is one track.

    Args:
        file: the file.
        infos: its arrays.
        key: the last part of the arrays' names that are embeddings, where each track has several.
        whole: the file is one track.
    """

    def __init__(
        self, file: ArrayFile, infos: Sequence[ArrayInfo], key: str | None = None, *, whole: bool = False
    ) -> None:
        self.name = str(file.path)
        self._file = file
        self._whole = whole
        chosen = [info for info in infos if info.dtype.kind == "f" and info.shape]
        if key is not None:
            chosen = [info for info in chosen if info.name.rsplit("/", 1)[-1] == key]
        self._infos = chosen
        self._key = key
        self.count = len(chosen)
        if not chosen:
            named = f" named {key}" if key else ""
            raise SourceError(f"{file.path} holds no arrays of floats{named}")

    def batches(self, skip: int) -> Iterator[RowBatch]:
        """Yield the arrays one by one."""
        for info in self._infos[skip:]:
            yield RowBatch([self._id_of(info)], [self._file.read(info.name)], [{}])

    def _id_of(self, info: ArrayInfo) -> str:
        if self._whole:
            return stem_of(self._file.path.name)
        return info.name.removesuffix(f"/{self._key}") if self._key else info.name

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield all shapes."""
        yield from (info.shape for info in self._infos)

    def describe(self, report: SourceReport) -> None:
        """Say what is taken for an id."""
        report.note(
            "the file is one track, and its name the track's id"
            if self._whole
            else f"each of the {self.count:,} arrays is a track, and its name the track's id"
        )


def array_rows(
    path: Path, ids: Path | None, options: EmbeddingOptions, wanted: Mapping[str, str] | None = None
) -> RowFile:
    """Return the rows of an array file.

    Args:
        path: a `.npy`, `.npz` or HDF5 file.
        ids: the file of ids; None: they are in the file, or in a file beside it.
        options: `key` names the array; `axes` says that a `.npy` without ids is one track.
        wanted: field to column of an ids' table.

    Raises:
        SourceError: it cannot be told whose the rows are.
    """
    from streams.producers.ids import read_ids, sidecar_of  # noqa: PLC0415 - ids read tables, which few files need

    file = ArrayFile(path)
    infos = file.infos()
    arrays = [info for info in infos if info.dtype.kind == "f" and info.shape]
    within = _ids_within(infos)
    beside = ids or (None if within else sidecar_of(path))
    if beside is not None:
        name = _matrix_of(path, arrays, options.key)
        named, facts, table = read_ids(beside, wanted)
        return MatrixFile(file, name, named, facts, table)
    if within is not None:
        return MatrixFile(file, _matrix_of(path, arrays, options.key), texts_of_array(file.read(within)))
    if file.kind in {".npz", *HDF5_KINDS} and (len(arrays) > 1 or (arrays and _is_id(arrays[0]))):
        return MemberFile(file, infos, options.key)
    if len(arrays) == 1 and (len(arrays[0].shape) == 1 or options.axes is not None):
        return MemberFile(file, arrays, whole=True)
    shape = arrays[0].shape if arrays else ()
    raise SourceError(
        f"{path} holds an array of shape {shape}, and nothing says whose its rows are: give --ids FILE (one id a line, "
        f"or .json, .npy, .csv), or put {path.stem}.ids.txt beside it; if it is one track, say its --axes"
    )


def _is_id(info: ArrayInfo) -> bool:
    """Whether an array's name looks like a track's, not like that of an array of all of them."""
    return info.name.rsplit("/", 1)[-1].casefold() not in VECTOR_NAMES


def _ids_within(infos: Sequence[ArrayInfo]) -> str | None:
    by_name = {
        info.name.casefold(): info for info in infos if len(info.shape) == 1 and info.dtype.kind in "USOiuT"
    }
    return next((by_name[name].name for name in ID_NAMES if name in by_name), None)


def _matrix_of(path: Path, arrays: Sequence[ArrayInfo], key: str | None) -> str:
    wide = [info.name for info in arrays if len(info.shape) > 1]
    if key is not None and key in wide:
        return key
    likely = [name for name in wide if name.rsplit("/", 1)[-1].casefold() in VECTOR_NAMES] or wide
    if key is not None or len(likely) != 1:
        held = ", ".join(wide) or "none"
        raise SourceError(
            f"{path} must hold one array of rows of floats; it holds {held}: say which with --key"
        )
    return likely[0]

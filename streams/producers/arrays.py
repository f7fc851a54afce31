"""Arrays in files: `.npy`, `.npz` and HDF5, found by name, read lazily."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.producers.extras import import_extra
from streams.producers.items import SourceError, UnreadableFileError

HDF5_KINDS: Final = frozenset({".h5", ".hdf5"})
ARRAY_KINDS: Final = frozenset({".npy", ".npz", *HDF5_KINDS})
# Usual names of the arrays of vectors and of ids, in files with several arrays.
VECTOR_NAMES: Final = (
    "embedding", "embeddings", "vector", "vectors", "features", "feature", "feats", "emb", "x", "arr_0", "data",
)  # fmt: skip
ID_NAMES: Final = (
    "track_ids", "track_id", "ids", "id", "names", "name", "filenames", "filename", "files", "paths", "keys", "labels",
)  # fmt: skip


class ArrayInfo(NamedTuple):
    """An array of a file: its name (empty in `.npy`), shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class UnreadableArrayError(UnreadableFileError):
    """A file holds no array that can be read."""


class ArrayFile:
    """The arrays of one file.

    Args:
        path: the file; its suffix, in any case, is its type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind = path.suffix.casefold()

    def infos(self) -> list[ArrayInfo]:
        """Its arrays, without reading them.

        Raises:
            UnreadableArrayError: it cannot be read.
            SourceError: what reads it is not installed.
        """
        with self._errors():
            if self.kind == ".npy":
                array = self._mapped()
                return [ArrayInfo("", array.shape, array.dtype)]
            if self.kind == ".npz":
                return list(_npz_infos(self.path))
            with self._hdf5() as file:
                return list(_hdf5_infos(file))

    def read(self, name: str = "") -> npt.NDArray[Any]:
        """One array; a `.npy` file is memory-mapped.

        Raises:
            UnreadableArrayError: it cannot be read.
        """
        with self._errors():
            if self.kind == ".npy":
                return self._mapped()
            if self.kind == ".npz":
                with np.load(self.path, allow_pickle=False) as archive:
                    return np.asarray(archive[name])
            with self._hdf5() as file:
                return np.asarray(file[name][()])

    @contextmanager
    def rows(self, name: str = "") -> Iterator[Any]:
        """An array to slice by its first axis; from `.npy` and HDF5 files only the slices are read."""
        with self._errors():
            if self.kind not in HDF5_KINDS:
                yield self.read(name)
                return
            with self._hdf5() as file:
                yield file[name]

    def vector_name(self, wanted: str | None = None) -> str:
        """The name of the array with a track's features: the one asked for, or the only likely one.

        Raises:
            UnreadableArrayError: there is none, or there are several likely ones.
        """
        infos = self.infos()
        names = [info.name for info in infos]
        if wanted is not None and self.kind != ".npy":
            if wanted not in names:
                raise UnreadableArrayError(f"holds no array {wanted!r}, but {', '.join(names)}")
            return wanted
        floats = [info.name for info in infos if info.dtype.kind == "f" and info.shape]
        if len(names) == 1 or not floats:
            return names[0]
        likely = [name for name in floats if name.rsplit("/", 1)[-1].casefold() in VECTOR_NAMES] or floats
        if len(likely) > 1:
            raise UnreadableArrayError(f"holds several arrays ({', '.join(likely)}): say which with --key")
        return likely[0]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as exc:
            if isinstance(exc, UnreadableArrayError):
                raise
            raise UnreadableArrayError(f"is not a {self.kind} file that can be read: {exc}") from exc

    def _mapped(self) -> npt.NDArray[Any]:
        # np.load would take an archive under this name for one.
        return np.lib.format.open_memmap(self.path, mode="r")

    @contextmanager
    def _hdf5(self) -> Iterator[Any]:
        h5py = import_extra("h5py", "HDF5 files")
        with h5py.File(self.path, "r") as file:
            yield file


def _npz_infos(path: Path) -> Iterator[ArrayInfo]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        if not members:
            raise UnreadableArrayError("holds no arrays")
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                shape, _, dtype = read[version](file)
                yield ArrayInfo(member.removesuffix(".npy"), shape, dtype)


def _hdf5_infos(file: Any) -> Iterator[ArrayInfo]:
    found: list[ArrayInfo] = []

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and item.shape is not None:
            found.append(ArrayInfo(name, tuple(item.shape), np.dtype(item.dtype)))

    file.visititems(visit)
    if not found:
        raise UnreadableArrayError("holds no arrays")
    yield from found


def texts_of_array(array: npt.NDArray[Any]) -> list[str]:
    """An array of ids as text, from strings, bytes, or whole numbers.

    Raises:
        SourceError: it holds something else.
    """
    if array.ndim != 1:
        raise SourceError(f"ids must be one list, not an array of shape {array.shape}")
    if array.dtype.kind == "f" and np.all(array == np.floor(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "USiuOT":
        raise SourceError(f"ids must be text or whole numbers, not {array.dtype}")
    return [item.decode() if isinstance(item, bytes) else str(item) for item in array.tolist()]

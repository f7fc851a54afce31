"""Tracks from a folder of arrays, one file a track."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy.typing as npt

from streams.producers import saarland
from streams.producers.arrays import ARRAY_KINDS, ArrayFile, UnreadableArrayError
from streams.producers.folders import TrackFolder, visible_files
from streams.producers.items import Position, Record, SourceError
from streams.producers.joining import without_array_suffix
from streams.producers.report import Tally
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions, vector_of

Layout = Literal["aggregated", "segments", "raw"]
# In order of preference if a track has several: the smallest first.
_LAYOUTS: Final[tuple[Layout, ...]] = ("aggregated", "segments", "raw")
# What lies beside arrays without being meant, such as a table of metadata.
_BESIDE: Final = frozenset({".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml"})
# The axes are identified from the shapes in so many files, evenly spread.
_LOOKED_AT: Final = 1_000


class FeatureFolder(TrackFolder):
    """A folder of `.npy`, `.npz` or HDF5 files, one a track, with optional folders for data sets and layouts.

    `DIR/[DATASET/][aggregated|segments|raw/]NAME.npy`. The track id is the metadata row's own, else NAME, with its
    folders where another file has the same name. Facts come from the row; what it lacks is taken from a Saarland file
    name and from the data set's folder.

    Args:
        folder: the folder.
        table: metadata, if there is any.
        options: how embeddings are read and sent.
        layout: read this layout only; None: for each track the one that is least to read.

    Raises:
        SourceError: there are no such files.
    """

    def __init__(
        self,
        folder: Path,
        table: MetadataTable | None = None,
        options: EmbeddingOptions | None = None,
        *,
        layout: Layout | None = None,
    ) -> None:
        files, others = _choose(folder, layout)
        if not files:
            of_layout = f" of layout {layout}" if layout else ""
            raise SourceError(
                f"{folder} holds no .npy, .npz or HDF5 files{of_layout}{f', but {others}' if others.count else ''}"
            )
        # A layout's folder says nothing of the track.
        names = ["/".join(part for part in path.parts if part not in _LAYOUTS) for path in files]
        super().__init__(folder, _ids_of(files), names, table, options)
        self._note_others(others, "array")
        self._axes = self._options.reader()

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder's name and the pooling; files may come and go between runs."""
        pool = str(self._options.pooling)
        return {"kind": "features", "name": self._folder.resolve().name, "pool": pool}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every file, in the order of their paths, which are the positions."""
        self._axes.learn(self._shapes())
        for done, path in enumerate(self._files, start=1):
            if isinstance(after, str) and path.as_posix() <= after:
                continue
            yield self._record(path, done, partial(self._vector, path), _own_facts(path))
        for note in self._axes.notes():
            self.report.note(note)

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        for path in self._files[:: max(1, len(self._files) // _LOOKED_AT)]:
            file = ArrayFile(self._folder / path)
            try:
                wanted = file.vector_name(self._options.key)
                yield next(info.shape for info in file.infos() if info.name == wanted)
            except UnreadableArrayError:
                continue  # it is refused when its turn comes

    def _vector(self, path: PurePosixPath) -> npt.NDArray[Any]:
        file = ArrayFile(self._folder / path)
        return vector_of(file.read(file.vector_name(self._options.key)), self._axes, self._options.pooling)


def _own_facts(path: PurePosixPath) -> dict[str, Any]:
    """Return what a file's name and folders say of its track."""
    facts = saarland.parse_name(without_array_suffix(path.name)) or {}
    if dataset := _dataset(path):
        facts.setdefault("dataset_source", dataset)
    return {"filename": path.name, **facts}


def _dataset(path: PurePosixPath) -> str | None:
    """Return the data set's folder: the first one that does not name a layout."""
    return next((part for part in path.parts[:-1] if part not in _LAYOUTS), None)


def _layout(path: PurePosixPath) -> Layout | None:
    return next((name for name in _LAYOUTS if name in path.parts[:-1]), None)


def _ids_of(files: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Return each file's name without the array's suffix, with its folders where several files have that name."""
    names = {path: without_array_suffix(path.name) for path in files}
    several = {name for name, count in Counter(names.values()).items() if count > 1}
    return {
        path: "/".join((*(part for part in path.parts[:-1] if part not in _LAYOUTS), name))
        if name in several
        else name
        for path, name in names.items()
    }


def _choose(folder: Path, layout: Layout | None) -> tuple[list[PurePosixPath], Tally]:
    """Return the files to read, relative and sorted, one for each track of each data set; and those that are no arrays."""
    chosen: dict[tuple[str, ...], PurePosixPath] = {}
    others = []
    for path in visible_files(folder):
        if path.suffix.casefold() not in ARRAY_KINDS:
            if path.suffix.casefold() not in _BESIDE:
                others.append(path.as_posix())
            continue
        if layout and _layout(path) not in (layout, None):
            continue
        track = tuple(part for part in path.parts if part not in _LAYOUTS)
        if track not in chosen or _rank(path) < _rank(chosen[track]):
            chosen[track] = path
    return sorted(chosen.values(), key=PurePosixPath.as_posix), Tally(sorted(others))


def _rank(path: PurePosixPath) -> int:
    layout = _layout(path)
    return _LAYOUTS.index(layout) if layout else -1

"""Tracks from a folder of arrays, one file a track."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from streams.contracts import InvalidEvent
from streams.producers import saarland
from streams.producers.arrays import ARRAY_KINDS, ArrayFile, UnreadableArrayError
from streams.producers.items import Position, Record, RefusedRecord, SourceError, TrackItem
from streams.producers.joining import Match, without_array_suffix
from streams.producers.report import SourceReport
from streams.producers.tables import MetadataTable
from streams.producers.tracks import (
    UNREADABLE,
    EmbeddingOptions,
    TrackEncoder,
    TrackRefusedError,
    claim_track_id,
    refused_track,
    row_facts,
    vector_of,
)

Layout = Literal["aggregated", "segments", "raw"]
# In order of preference if a track has several: the smallest first.
_LAYOUTS: Final[tuple[Layout, ...]] = ("aggregated", "segments", "raw")
# The axes are identified from the shapes in so many files, evenly spread.
_LOOKED_AT: Final = 1_000


class FeatureFolder:
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
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder")
        self.name = str(folder)
        self.unit = "files"
        self.report = SourceReport()
        self._folder = folder
        self._table = table
        self._options = options or EmbeddingOptions()
        self._encoder = TrackEncoder(self.report, self._options)
        self._files = _choose(folder, layout)
        if not self._files:
            of_layout = f" of layout {layout}" if layout else ""
            raise SourceError(f"{folder} holds no .npy, .npz or HDF5 files{of_layout}")
        self.total: int | None = len(self._files)
        self._ids = _ids_of(self._files)
        self._matches = self._join()
        self._axes = self._options.reader()

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder's name and the pooling; files may come and go between runs."""
        pool = str(self._options.pooling)
        return {"kind": "features", "name": self._folder.resolve().name, "pool": pool}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every file, in the order of their paths, which are the positions."""
        self._axes.learn(self._shapes())
        seen: dict[str, str] = {}
        for done, path in enumerate(self._files, start=1):
            position = path.as_posix()
            if isinstance(after, str) and position <= after:
                continue
            yield self._record(path, position, done, seen)
        for note in self._axes.notes():
            self.report.note(note)

    def _join(self) -> dict[PurePosixPath, Match]:
        """Find each file's row, and say what is left over."""
        if self._table is None:
            return {}
        # A layout's folder says nothing of the track.
        names = ["/".join(part for part in path.parts if part not in _LAYOUTS) for path in self._files]
        return self._table.join(self._files, names, self.report)

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        for path in self._files[:: max(1, len(self._files) // _LOOKED_AT)]:
            file = ArrayFile(self._folder / path)
            try:
                wanted = file.vector_name(self._options.key)
                yield next(info.shape for info in file.infos() if info.name == wanted)
            except UnreadableArrayError:
                continue  # it is refused when its turn comes

    def _record(
        self, path: PurePosixPath, position: str, done: int, seen: dict[str, str]
    ) -> TrackItem | RefusedRecord:
        track_id = self._ids[path]
        try:
            facts = self._facts(path)
            track_id = str(facts.pop("track_id", None) or track_id)
            claim_track_id(track_id, position, seen)
            file = ArrayFile(self._folder / path)
            features = file.read(file.vector_name(self._options.key))
            vector = vector_of(features, self._axes, self._options.pooling)
            return self._encoder.encode(track_id, vector, facts, position, done)
        except UnreadableArrayError as exc:
            return RefusedRecord(position, UNREADABLE, str(exc), track_id, position, done)
        except TrackRefusedError as exc:
            return RefusedRecord(position, exc.reason, exc.detail, track_id, position, done)
        except InvalidEvent as exc:
            return refused_track(exc, position, track_id, position, done)

    def _facts(self, path: PurePosixPath) -> dict[str, Any]:
        facts = saarland.parse_name(without_array_suffix(path.name)) or {}
        if dataset := _dataset(path):
            facts.setdefault("dataset_source", dataset)
        if self._table is not None:
            facts |= row_facts(self._table, self._matches[path], required=self._options.require_metadata)
        facts.setdefault("filename", path.name)
        return facts


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


def _choose(folder: Path, layout: Layout | None) -> list[PurePosixPath]:
    """Return the files to read, relative and sorted, one for each track of each data set."""
    chosen: dict[tuple[str, ...], PurePosixPath] = {}
    for found in folder.rglob("*"):
        if found.suffix.casefold() not in ARRAY_KINDS or not found.is_file():
            continue
        path = PurePosixPath(found.relative_to(folder).as_posix())
        if any(part.startswith(".") for part in path.parts) or (
            layout and _layout(path) not in (layout, None)
        ):
            continue
        track = tuple(part for part in path.parts if part not in _LAYOUTS)
        if track not in chosen or _rank(path) < _rank(chosen[track]):
            chosen[track] = path
    return sorted(chosen.values(), key=PurePosixPath.as_posix)


def _rank(path: PurePosixPath) -> int:
    layout = _layout(path)
    return _LAYOUTS.index(layout) if layout else -1

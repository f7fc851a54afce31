"""Tracks from a folder of recordings, one file a track, embedded as they are read."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.contracts import InvalidEvent
from streams.producers.audio.decoding import UnreadableRecordingError, samples_of
from streams.producers.audio.embedding import embed_samples, load_network
from streams.producers.audio.tags import tagged_facts
from streams.producers.extras import import_extra
from streams.producers.items import Position, Record, RefusedRecord, SourceError, TrackItem
from streams.producers.joining import SUFFIXES, Match
from streams.producers.report import SourceReport, Tally
from streams.producers.tables import MetadataTable
from streams.producers.tracks import (
    UNREADABLE,
    EmbeddingOptions,
    TrackEncoder,
    TrackRefusedError,
    claim_track_id,
    refused_track,
    row_facts,
)

# What a file may end in to be taken for a recording; whether it is one is found by decoding it.
RECORDING_KINDS: Final = SUFFIXES - {"npy", "npz", "h5", "hdf5", "mid", "midi"}
# What made the vectors, for whoever compares them.
MODEL: Final = "musicnn-msd"

_Read = tuple[npt.NDArray[np.float32] | None, dict[str, Any], str]


class RecordingFolder:
    """A folder of recordings.

    The track id is the metadata row's own, else the file's path below the folder without its suffix; with it where another
    file has the same path otherwise. Facts come from the row; what it lacks is taken from the file's own tags.

    Args:
        folder: The folder.
        weights: Of the network, as `mess models fetch` wrote them.
        table: Metadata, if there is any.
        options: How vectors are sent.
        jobs: Files that are worked on at the same time; None: one a processor.

    Raises:
        SourceError: there are no recordings, no network, or the extra `audio` is not installed.
    """

    def __init__(
        self,
        folder: Path,
        weights: Path,
        table: MetadataTable | None = None,
        options: EmbeddingOptions | None = None,
        *,
        jobs: int | None = None,
    ) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder")
        for name in ("soundfile", "soxr", "mutagen"):
            import_extra(name, "recordings", "audio")
        self.name = str(folder)
        self.unit = "files"
        self.report = SourceReport()
        self._folder = folder
        self._table = table
        self._options = options or EmbeddingOptions()
        self._encoder = TrackEncoder(self.report, self._options)
        self._jobs = jobs or os.cpu_count() or 1
        self._files, others = _recordings(folder)
        if not self._files:
            raise SourceError(f"{folder} holds no recordings (.wav, .flac, .ogg, .mp3, ...)")
        if others.count:
            what = (
                "file is no recording by its name"
                if others.count == 1
                else "files are no recordings by their names"
            )
            self.report.note(f"{others.count:,} {what}: {others}")
        self.total: int | None = len(self._files)
        self._ids = _ids_of(self._files)
        names = [path.as_posix() for path in self._files]
        self._matches = table.join(self._files, names, self.report) if table is not None else {}
        self._network = load_network(weights)

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder's name and the network; files may come and go between runs."""
        return {"kind": "recordings", "name": self._folder.resolve().name, "model": MODEL}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every file, in the order of their paths, which are the positions."""
        seen: dict[str, str] = {}
        ahead: deque[tuple[PurePosixPath, int, Future[_Read]]] = deque()
        files = iter(
            (path, done)
            for done, path in enumerate(self._files, start=1)
            if not (isinstance(after, str) and path.as_posix() <= after)
        )
        # Files are what runs side by side; within one, threads would only wait for each other.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(self._jobs, "recording") as pool:
            try:
                while True:
                    while len(ahead) < 2 * self._jobs and (following := next(files, None)) is not None:
                        path, done = following
                        ahead.append((path, done, pool.submit(self._read, path)))
                    if not ahead:
                        return
                    path, done, reading = ahead.popleft()
                    yield self._record(path, done, reading.result(), seen)
            finally:
                for *_, reading in ahead:
                    reading.cancel()

    def _read(self, path: PurePosixPath) -> _Read:
        """Vector and tags of a file; or what is wrong with it."""
        whole = self._folder / path
        try:
            return embed_samples(self._network, samples_of(whole)), tagged_facts(whole), ""
        except UnreadableRecordingError as error:
            return None, {}, str(error)
        except OSError as error:
            return None, {}, error.strerror or str(error)

    def _record(
        self, path: PurePosixPath, done: int, read: _Read, seen: dict[str, str]
    ) -> TrackItem | RefusedRecord:
        position, track_id = path.as_posix(), self._ids[path]
        vector, tagged, wrong = read
        try:
            facts = self._facts(path, tagged)
            track_id = str(facts.pop("track_id", None) or track_id)
            claim_track_id(track_id, position, seen)
            if vector is None:
                return RefusedRecord(position, UNREADABLE, wrong, track_id, position, done)
            return self._encoder.encode(track_id, vector, facts, position, done)
        except TrackRefusedError as error:
            return RefusedRecord(position, error.reason, error.detail, track_id, position, done)
        except InvalidEvent as error:
            return refused_track(error, position, track_id, position, done)

    def _facts(self, path: PurePosixPath, tagged: dict[str, Any]) -> dict[str, Any]:
        facts = {"title": path.stem, **tagged}
        if self._table is not None:
            match: Match = self._matches[path]
            facts |= row_facts(self._table, match, required=self._options.require_metadata)
        return facts | {"filename": path.as_posix(), "embedding_model": MODEL}


def _recordings(folder: Path) -> tuple[list[PurePosixPath], Tally]:
    """Return the recordings of a folder, relative and sorted, and what else it holds; hidden files are neither."""
    found, others = [], Tally()
    paths = (
        PurePosixPath(each.relative_to(folder).as_posix()) for each in folder.rglob("*") if each.is_file()
    )
    for path in sorted(paths, key=PurePosixPath.as_posix):
        if any(part.startswith(".") for part in path.parts):
            continue
        if path.suffix[1:].casefold() in RECORDING_KINDS:
            found.append(path)
        else:
            others.add(path.as_posix())
    return found, others


def _ids_of(files: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Return each file's path without its suffix, with it where several would be the same."""
    shorter = {path: path.with_suffix("").as_posix() for path in files}
    several = {name for name, count in Counter(shorter.values()).items() if count > 1}
    return {path: path.as_posix() if name in several else name for path, name in shorter.items()}

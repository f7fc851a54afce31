"""Tracks from a folder of recordings, one file a track, embedded as they are read."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes none

from streams.producers.audio.decoding import UnreadableRecordingError, samples_of
from streams.producers.audio.embedding import Embedder
from streams.producers.audio.tags import tagged_facts
from streams.producers.extras import import_extra
from streams.producers.folders import TrackFolder, visible_files
from streams.producers.items import Position, Record, SourceError
from streams.producers.joining import RECORDINGS
from streams.producers.report import Tally
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions

# What a file may end in to be taken for a recording; whether it is one is found by decoding it.
RECORDING_KINDS: Final = frozenset(RECORDINGS.split("|"))


class _Read(NamedTuple):
    """What is read of a file beside the others: its vector, or what is wrong with it, and its tags."""

    found: npt.NDArray[np.floating] | None
    tagged: dict[str, Any]
    wrong: str = ""

    def vector(self) -> npt.NDArray[np.floating]:
        if self.found is None:
            raise UnreadableRecordingError(self.wrong)
        return self.found


class RecordingFolder(TrackFolder):
    """A folder of recordings.

    The track id is the metadata row's own, else the file's path below the folder without its suffix; with it where another
    file has the same path otherwise. Facts come from the row; what it lacks is taken from the file's own tags.

    Args:
        folder: The folder.
        embedder: What makes the vectors.
        table: Metadata, if there is any.
        options: How vectors are sent.
        jobs: Files that are worked on at the same time; None: one a processor.

    Raises:
        SourceError: there are no recordings, or the extra `audio` is not installed.
    """

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        table: MetadataTable | None = None,
        options: EmbeddingOptions | None = None,
        *,
        jobs: int | None = None,
    ) -> None:
        for name in ("soundfile", "soxr", "mutagen"):
            import_extra(name, "recordings", "audio")
        files, others = _recordings(folder)
        if not files:
            raise SourceError(f"{folder} holds no recordings (.wav, .flac, .ogg, .mp3, ...)")
        super().__init__(folder, _ids_of(files), None, table, options)
        self._note_others(others, "recording")
        self._embedder = embedder
        self._jobs = jobs or os.cpu_count() or 1

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder's name and the model; files may come and go between runs."""
        return {"kind": "recordings", "name": self._folder.resolve().name, "model": self._embedder.model}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every file, in the order of their paths, which are the positions."""
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
                    yield self._made(path, done, reading.result())
            finally:
                for *_, reading in ahead:
                    reading.cancel()

    def _read(self, path: PurePosixPath) -> _Read:
        whole = self._folder / path
        try:
            vector = self._embedder.embed(samples_of(whole, self._embedder.rate))
            return _Read(vector, tagged_facts(whole))
        except UnreadableRecordingError as error:
            return _Read(None, {}, str(error))
        except OSError as error:
            return _Read(None, {}, error.strerror or str(error))

    def _made(self, path: PurePosixPath, done: int, read: _Read) -> Record:
        own = {"title": path.stem, **read.tagged}
        certain = {"filename": path.as_posix(), "embedding_model": self._embedder.model}
        return self._record(path, done, read.vector, own, certain)


def _recordings(folder: Path) -> tuple[list[PurePosixPath], Tally]:
    """Return the recordings of a folder, relative and sorted, and what else it holds; hidden files are neither."""
    found, others = [], Tally()
    for path in sorted(visible_files(folder), key=PurePosixPath.as_posix):
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

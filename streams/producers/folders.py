"""Folders with a file a track: what folders of arrays and of recordings have in common."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt

from streams.contracts import InvalidEvent
from streams.producers.items import RefusedRecord, SourceError, TrackItem, UnreadableFileError
from streams.producers.joining import Match
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


def visible_files(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the files below a folder, relative to it, in no order; hidden files and folders are passed over.

    Raises:
        SourceError: it is not a folder.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    for found in folder.rglob("*"):
        path = PurePosixPath(found.relative_to(folder).as_posix())
        if not any(part.startswith(".") for part in path.parts) and found.is_file():
            yield path


class TrackFolder:
    """A folder with a file a track, whose facts come from a table's row and from the file itself.

    Args:
        folder: The folder.
        ids: Its files, relative and in their order, and the id of each where the table has none.
        names: What each file is called in a table; None: by its path.
        table: Metadata, if there is any.
        options: How vectors are sent.
    """

    def __init__(
        self,
        folder: Path,
        ids: Mapping[PurePosixPath, str],
        names: Sequence[str] | None,
        table: MetadataTable | None,
        options: EmbeddingOptions | None,
    ) -> None:
        self.name = str(folder)
        self.report = SourceReport()
        self.total: int | None = len(ids)
        self._folder = folder
        self._files = list(ids)
        self._ids = ids
        self._table = table
        self._options = options or EmbeddingOptions()
        self._encoder = TrackEncoder(self.report, self._options)
        self._matches: dict[PurePosixPath, Match] = {}
        if table is not None:
            called = names or [path.as_posix() for path in self._files]
            self._matches = table.join(self._files, called, self.report)
        self._seen: dict[str, str] = {}

    def _note_others(self, others: Tally, kind: str) -> None:
        """Say which files of the folder are passed over, for their names."""
        if others.count:
            what = (
                f"file is no {kind} by its name"
                if others.count == 1
                else f"files are no {kind}s by their names"
            )
            self.report.note(f"{others.count:,} {what}: {others}")

    def _record(
        self,
        path: PurePosixPath,
        done: int,
        vector: Callable[[], npt.NDArray[Any]],
        own: Mapping[str, Any],
        certain: Mapping[str, Any] | None = None,
    ) -> TrackItem | RefusedRecord:
        """Return a file's message, or why there is none.

        Args:
            path: The file.
            done: How many files are read with it.
            vector: What reads its vector; raises `UnreadableFileError`, `TrackRefusedError` or `InvalidEvent`.
            own: What the file says of itself; the table's row counts more.
            certain: Facts that count more than the row's.
        """
        position, track_id = path.as_posix(), self._ids[path]
        try:
            facts = {**own, **self._row(path), **(certain or {})}
            track_id = str(facts.pop("track_id", None) or track_id)
            claim_track_id(track_id, position, self._seen)
            return self._encoder.encode(track_id, vector(), facts, position, done)
        except UnreadableFileError as error:
            return RefusedRecord(position, UNREADABLE, str(error), track_id, position, done)
        except TrackRefusedError as error:
            return RefusedRecord(position, error.reason, error.detail, track_id, position, done)
        except InvalidEvent as error:
            return refused_track(error, position, track_id, position, done)

    def _row(self, path: PurePosixPath) -> Mapping[str, Any]:
        if self._table is None:
            return {}
        return row_facts(self._table, self._matches[path], required=self._options.require_metadata)

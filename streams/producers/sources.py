"""Opens the source of tracks at a path, by its kind and suffix."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streams.producers.arrays import ARRAY_KINDS
from streams.producers.columnar import ColumnarFile
from streams.producers.compressed import kind_of
from streams.producers.embedding_rows import EmbeddingRows
from streams.producers.features import FeatureFolder, Layout
from streams.producers.items import SourceError, TrackSource
from streams.producers.jsonl import JsonLines
from streams.producers.rawtables import COLUMNAR_KINDS, CSV_KINDS
from streams.producers.row_files import array_rows
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions

_TEXT_TABLES: Final = CSV_KINDS - {".txt"}


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        embeddings: How embeddings are read and sent.
        metadata: A table of metadata, joined by id or file name.
        wanted: Field to column of the table, as `--map` says.
        table_encoding: Of a table of text; None: told by its bytes.
        ids: A file of ids for the rows of an array.
        layout: Read this layout of a folder only.
    """

    embeddings: EmbeddingOptions = field(default_factory=EmbeddingOptions)
    metadata: Path | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)
    table_encoding: str | None = None
    ids: Path | None = None
    layout: Layout | None = None

    def table(self) -> MetadataTable | None:
        """Return the table of metadata; None without one.

        Raises:
            SourceError: it cannot be read.
        """
        if self.metadata is None:
            return None
        return MetadataTable.read(self.metadata, self.wanted, encoding=self.table_encoding)


def open_source(path: Path | None, options: SourceOptions) -> TrackSource:
    """Return the source of tracks that a path is; None is standard input.

    Raises:
        SourceError: it cannot be read, or it is none; the message says what to do.
    """
    embeddings = options.embeddings
    kind = kind_of(path) if path is not None else ""
    folder = path is not None and path.is_dir()
    if options.ids is not None and (folder or kind not in ARRAY_KINDS):
        raise SourceError("--ids belongs to one .npy, .npz or HDF5 file of many tracks")
    if options.layout is not None and not folder:
        raise SourceError("--layout belongs to a folder of features")
    if path is not None and folder:
        return FeatureFolder(path, options.table(), embeddings, layout=options.layout)
    if path is not None and kind in ARRAY_KINDS | COLUMNAR_KINDS:
        if not path.is_file():
            raise SourceError(f"{path} cannot be read: no such file")
        # A map is of the table's columns, or else of the file's own.
        own = {} if options.metadata else options.wanted
        rows = (
            array_rows(path, options.ids, embeddings, own)
            if kind in ARRAY_KINDS
            else ColumnarFile(path, vector=embeddings.key, wanted=own)
        )
        return EmbeddingRows(rows, options.table(), embeddings)
    if kind in _TEXT_TABLES:
        raise SourceError(
            f"{path} is a table of metadata: give it with --metadata, beside a folder or a file of embeddings"
        )
    if kind == ".json":
        raise SourceError(
            f"{path} is one JSON document; tracks are JSON lines: jq -c '.[]' {path} > tracks.jsonl"
        )
    if options.metadata is not None:
        raise SourceError(
            "--metadata belongs to a folder or a file of embeddings; a JSON line carries its own metadata"
        )
    return JsonLines(path, embeddings, options.wanted)

"""Files by their suffixes, compressed ones among them."""

import gzip
from pathlib import Path
from typing import IO, Final, cast

from streams.producers.extras import import_extra
from streams.producers.items import SourceError

_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


def kind_of(path: Path) -> str:
    """Return a file's suffix in lower case, without that of its compression: `.csv` of `A.CSV.GZ`."""
    suffixes = [suffix.casefold() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_compressed(path: Path) -> bool:
    """Tell whether a file's name says that it is compressed."""
    return path.suffix.casefold() in _COMPRESSIONS


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its name ends in .gz or .zst.

    Raises:
        SourceError: it cannot be read, or what decompresses it is missing.
    """
    compression = _COMPRESSIONS.get(path.suffix.casefold())
    try:
        if compression == "gzip":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        if compression == "zstd":
            pyarrow = import_extra("pyarrow", ".zst files")
            return cast("IO[bytes]", pyarrow.input_stream(str(path), compression="zstd"))
        return path.open("rb")
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def read_bytes(path: Path) -> bytes:
    """Return a whole file, decompressed.

    Raises:
        SourceError: it cannot be read.
    """
    with open_bytes(path) as file:
        try:
            return file.read()
        except (OSError, EOFError, ValueError) as exc:
            raise SourceError(f"{path} cannot be read: {exc}") from exc

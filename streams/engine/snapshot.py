"""The engine's state in a file, written while it works and loaded in about a second.

A file has a header and frames. The header, JSON in the first 4 KiB, names the catalogue and the offsets that the file covers;
it is written last. A frame holds the tracks or the lists of some slots as raw arrays, with a checksum. The first pass writes
all slots, a few milliseconds at a time between two calls of the engine. Further passes write slots that have changed
meanwhile, each pass shorter than the one before, as live migration copies memory (Clark et al., *Live Migration of Virtual
Machines*, NSDI 2005). The last pass is short enough to run without a pause, so the file is the state of that moment. For each
slot the last frame counts.
"""

import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from streams.engine.catalogue import Catalogue
from streams.engine.lists import NeighbourLists
from streams.engine.types import EVENT, SnapshotHeader

MAGIC = b"MESSLIST"
VERSION = 4
HEADER_BYTES = 4096
# Kind of frame, number of slots, first slot or -1 if they are listed, bytes of the payload; then CRC-32 of all of it.
FRAME = struct.Struct("<IIqQ")
CHECKSUM = struct.Struct("<I")
TRACKS, LISTS, LEFT, AGAIN = 1, 2, 3, 4
# Maximum number of slots in a frame.
FRAME_ROWS = 1024
# With at most so many slots left, or after so many passes, the writer finishes without a pause.
LAST_ROWS = 2048
PASSES = 6
NONE = 0xFFFFFFFF  # the length of an id that there isn't

# The arrays of a frame of lists that every slot has, in order, behind one that says which lists are known.
LIST_STATES: list[tuple[str, npt.DTypeLike]] = [
    ("horizon", np.float32),
    ("lengths", np.int16),
    ("owned", np.bool_),
    ("pending", np.bool_),
    ("changed", np.bool_),
]

Rows = npt.NDArray[np.intp]


class SnapshotError(ValueError):
    """A snapshot cannot be written or must not be loaded; the message says why."""


@dataclass(frozen=True, slots=True)
class RemainingParts:
    """Deletions that are not reported yet: keys, int64 (m,), and the tracks' partitions, int32 (m,)."""

    keys: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int32]


def read_snapshot_header(path: str | os.PathLike[str]) -> SnapshotHeader:
    """Read only the header of a snapshot.

    Raises:
        SnapshotError: There is none, it is of another format, or it is not whole.
    """
    try:
        with Path(path).open("rb") as file:
            return _header(file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise SnapshotError(f"the snapshot cannot be read: {error.strerror or error}") from error


def _header(block: bytes, size: int) -> SnapshotHeader:
    if len(block) < HEADER_BYTES or not block.startswith(MAGIC):
        raise SnapshotError("the file is not a snapshot of the neighbour engine")
    length, checksum = struct.unpack_from("<II", block, len(MAGIC))
    body = block[len(MAGIC) + 8 : len(MAGIC) + 8 + length]
    if zlib.crc32(body) != checksum:
        raise SnapshotError("the snapshot's header is corrupt")
    found = json.loads(body)
    if found.get("version") != VERSION:
        raise SnapshotError(f"the snapshot is of format {found.get('version')}, not {VERSION}")
    found["offsets"] = {int(partition): offset for partition, offset in found["offsets"].items()}
    header = SnapshotHeader(**found)
    if size != header.size:
        raise SnapshotError(f"the snapshot is truncated: {size} bytes of {header.size}")
    return header


def check_snapshot(
    header: SnapshotHeader, identity: str, shape: tuple[int, int, int], upto: Mapping[int, int] | None
) -> None:
    """Refuse a snapshot of another catalogue.

    Args:
        header: The snapshot's.
        identity: The catalogue that it must belong to.
        shape: Dimension, published and kept.
        upto: By partition, the store's consumed offset: a snapshot beyond it belongs to another history.

    Raises:
        SnapshotError: Why not.
    """
    if header.identity != identity:
        raise SnapshotError(f"the snapshot is of catalogue {header.identity!r}, not {identity!r}")
    theirs = (header.dimension, header.published, header.kept)
    if theirs != shape:
        raise SnapshotError(f"the snapshot is of dimension, published and kept {theirs}, not {shape}")
    for partition, offset in header.offsets.items() if upto is not None else ():
        if offset > (upto or {}).get(partition, 0):
            raise SnapshotError(
                f"the snapshot goes to offset {offset} of partition {partition}, beyond what the store has consumed"
            )


class SnapshotWriter:
    """Writes the state of an engine, slice by slice, to a file that appears when it is complete.

    Between two calls of `advance` the engine may change as it likes.

    Args:
        path: The file to write.
        identity: Identifies the catalogue.
        offsets: By partition, the offset below which every event has been applied.
        catalogue: The tracks to write.
        lists: Their lists.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: str,
        offsets: Mapping[int, int],
        catalogue: Catalogue,
        lists: NeighbourLists,
    ) -> None:
        self.offsets = dict(offsets)
        self.header: SnapshotHeader | None = None
        self.error: str | None = None
        self._path = Path(path)
        self._identity = identity
        self._catalogue, self._lists = catalogue, lists
        self._partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._file: BinaryIO = self._partial.open("wb")
            self._file.write(bytes(HEADER_BYTES))
        except OSError as error:
            raise SnapshotError(f"the snapshot cannot be written: {error}") from error
        catalogue.touched[:] = True
        lists.touched[:] = True
        self._passes = 0
        self._frames = self._pass()
        self._finishing: threading.Thread | None = None

    @property
    def done(self) -> bool:
        """Whether writing has ended: then `header` describes the file, or `error` says why there is none."""
        return self.error is not None or (self._finishing is not None and not self._finishing.is_alive())

    def advance(self, seconds: float, left: RemainingParts, again: Rows) -> None:
        """Write for about so many seconds.

        Args:
            seconds: The time limit, which does not hold for the last pass.
            left: Deletions that may have to be reported again.
            again: Slots whose lists may have to be given again.
        """
        if self.error is not None or self._finishing is not None:
            return
        until = time.perf_counter() + seconds
        try:
            while time.perf_counter() < until:
                if next(self._frames, None) is not None:
                    continue
                self._passes += 1
                if self._remaining() > LAST_ROWS and self._passes < PASSES:
                    self._frames = self._pass()
                    continue
                self._complete(left, again)
                return
        except OSError as error:
            self._fail(error)

    def abandon(self) -> None:
        """Stop writing, and remove the partial file."""
        if self._finishing is not None:
            self._finishing.join()
        elif self.error is None:
            self._file.close()
            self._partial.unlink(missing_ok=True)
            self.error = "the snapshot was abandoned"

    def _fail(self, error: OSError) -> None:
        self.error = f"the snapshot cannot be written: {error}"
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _remaining(self) -> int:
        used = self._catalogue.used
        return int((self._catalogue.touched[:used] | self._lists.touched[:used]).sum())

    def _pass(self) -> Iterator[int]:
        """Write the slots that are touched now, frame by frame; yields the slots of each frame."""
        catalogue, lists = self._catalogue, self._lists
        for kind, touched in ((TRACKS, catalogue.touched), (LISTS, lists.touched)):
            rows = np.flatnonzero(touched[: catalogue.used])
            for start in range(0, len(rows), FRAME_ROWS):
                part = rows[start : start + FRAME_ROWS]
                # Read by attribute: the array may have been replaced by a longer one.
                (catalogue if kind == TRACKS else lists).touched[part] = False
                self._write(kind, part)
                yield len(part)

    def _complete(self, left: RemainingParts, again: Rows) -> None:
        again = again[self._catalogue.alive[again] & self._lists.owned[again]]
        for _ in self._pass():
            pass
        if len(again):
            self._frame(AGAIN, again, [])
        self._frame(LEFT, np.arange(len(left.keys)), [left.keys, left.owners])
        lists, catalogue = self._lists, self._catalogue
        header = SnapshotHeader(
            version=VERSION,
            identity=self._identity,
            dimension=catalogue.dimension,
            published=lists.published,
            kept=lists.kept,
            tracks=len(catalogue),
            used=catalogue.used,
            offsets=dict(self.offsets),
            created=time.time(),
            size=self._file.tell(),
        )
        # Syncing the disk may take seconds; the engine does not wait for it.
        self._finishing = threading.Thread(target=self._finish, args=(header,), name="snapshot", daemon=True)
        self._finishing.start()

    def _finish(self, header: SnapshotHeader) -> None:
        body = json.dumps(asdict(header)).encode()
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(0)
            self._file.write(MAGIC + struct.pack("<II", len(body), zlib.crc32(body)) + body)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)
            self.header = header
        except OSError as error:
            self._fail(error)

    def _write(self, kind: int, rows: Rows) -> None:
        if kind == TRACKS:
            catalogue = self._catalogue
            ids = [catalogue.track_ids[row] for row in rows.tolist()]
            names = ("keys", "alive", "events", "vectors")
            self._frame(kind, rows, [getattr(catalogue, name)[rows] for name in names] + _packed(ids))
            return
        lists = self._lists
        at = lists.row_of[rows]
        listed = at[at > 0]
        arrays = [at > 0, *(getattr(lists, name)[rows] for name, _ in LIST_STATES)]
        arrays += [getattr(lists, name)[listed] for name, _, _ in _list_rows(lists)]
        self._frame(kind, rows, arrays + _packed(lists.horizon_id[listed].tolist()))

    def _frame(self, kind: int, rows: Rows, arrays: list[npt.NDArray[Any]]) -> None:
        whole = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        arrays = arrays if whole else [rows.astype(np.int32), *arrays]
        parts = [
            np.ascontiguousarray(array).view(np.uint8).reshape(-1).data for array in arrays if array.size
        ]
        size = sum(len(part) for part in parts)
        head = FRAME.pack(kind, len(rows), int(rows[0]) if whole else -1, size)
        checksum = zlib.crc32(head)
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        self._file.write(head + CHECKSUM.pack(checksum))
        for part in parts:
            self._file.write(part)


def _list_rows(lists: NeighbourLists) -> list[tuple[str, npt.DTypeLike, int]]:
    """The further arrays of a frame of lists, of known lists only, in order: name, type, columns or 0."""
    return [
        ("slots", np.int32, lists.kept),
        ("scores", np.float32, lists.kept),
        ("events", EVENT, 0),
        ("at_last", np.bool_, 0),
    ]


def _packed(texts: list[str | None]) -> list[npt.NDArray[Any]]:
    encoded = [b"" if text is None else text.encode() for text in texts]
    sizes = [NONE if text is None else len(data) for text, data in zip(texts, encoded, strict=True)]
    return [np.array(sizes, dtype=np.uint32), np.frombuffer(b"".join(encoded), dtype=np.uint8)]


class _Payload:
    """Reads arrays from a frame's payload, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, dtype: npt.DTypeLike, rows: int, columns: int = 0) -> npt.NDArray[Any]:
        count = rows * (columns or 1)
        array = np.frombuffer(self._data, dtype=dtype, count=count, offset=self._at)
        self._at += array.nbytes
        return array.reshape(rows, columns) if columns else array

    def texts(self, rows: int) -> list[str | None]:
        found: list[str | None] = []
        for size in self.take(np.uint32, rows).tolist():
            if size == NONE:
                found.append(None)
                continue
            found.append(bytes(self._data[self._at : self._at + size]).decode())
            self._at += size
        return found


def load_state(path: str | os.PathLike[str], catalogue: Catalogue, lists: NeighbourLists) -> RemainingParts:
    """Fill an empty catalogue and its lists from a snapshot with a checked header.

    Returns:
        Deletions not told yet.

    Raises:
        SnapshotError: It is corrupt; nothing has been changed.
    """
    header = read_snapshot_header(path)
    data = np.memmap(path, dtype=np.uint8, mode="r").data
    frames = list(_frames(data))
    if catalogue.reserve(header.used):
        lists.resize(catalogue.capacity)
    ids: list[str | None] = [None] * header.used
    all_slots = np.arange(header.used, dtype=np.int32)
    left = RemainingParts(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
    for kind, rows, start, payload in frames:
        if kind == LEFT:
            left = RemainingParts(payload.take(np.int64, rows).copy(), payload.take(np.int32, rows).copy())
            continue
        into: Any = slice(start, start + rows) if start >= 0 else payload.take(np.int32, rows)
        if kind == AGAIN:
            lists.changed[into] = True
            continue
        if kind == TRACKS:
            catalogue.keys[into] = payload.take(np.int64, rows)
            catalogue.alive[into] = payload.take(np.bool_, rows)
            catalogue.events[into] = payload.take(EVENT, rows)
            catalogue.vectors[into] = payload.take(np.float32, rows, header.dimension)
            places = range(start, start + rows) if start >= 0 else into.tolist()
            for place, text in zip(places, payload.texts(rows), strict=True):
                ids[place] = text
            continue
        _load_lists(payload, all_slots[into], lists)
    catalogue.restore(ids)
    return left


def _load_lists(payload: _Payload, slots: npt.NDArray[np.int32], lists: NeighbourLists) -> None:
    known = payload.take(np.bool_, len(slots))
    lists.forget(slots[~known])
    for name, dtype in LIST_STATES:
        getattr(lists, name)[slots] = payload.take(dtype, len(slots))
    at = lists.hold(slots[known])
    for name, dtype, columns in _list_rows(lists):
        getattr(lists, name)[at] = payload.take(dtype, len(at), columns)
    texts = np.empty(len(at), dtype=object)
    texts[:] = payload.texts(len(at))
    lists.horizon_id[at] = texts


def _frames(data: memoryview) -> Iterator[tuple[int, int, int, _Payload]]:
    """Yields kind, number of slots, first slot or -1, and payload of every frame, after checking its checksum."""
    at = HEADER_BYTES
    while at < len(data):
        body = at + FRAME.size + CHECKSUM.size
        if body > len(data):
            raise SnapshotError("the snapshot is corrupt: a frame is cut off")
        head = data[at : at + FRAME.size]
        kind, rows, start, size = FRAME.unpack(head)
        (checksum,) = CHECKSUM.unpack(data[at + FRAME.size : body])
        payload = data[body : body + min(size, len(data))]
        if len(payload) != size or zlib.crc32(payload, zlib.crc32(head)) != checksum:
            raise SnapshotError("the snapshot is corrupt: a checksum does not match")
        yield kind, rows, start, _Payload(payload)
        at = body + size

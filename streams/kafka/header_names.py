"""Header names that are not UTF-8: C clients write them, and aiokafka would read no message behind one.

Kafka's protocol says that a header's name is UTF-8, and no broker checks it. aiokafka 0.14 decodes it in the middle of a
fetch (`record/default_records.py`), so that the consumer fails at the same message for ever, before anybody has seen it.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords

# A batch begins with its first offset and the number of bytes that follow: int64, int32, big-endian.
_PREFIX: Final = struct.Struct(">qi")


class _Text(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        del errors
        return super().decode(encoding, "replace")


class _Slices(bytearray):
    def __getitem__(self, which: Any) -> Any:
        found = super().__getitem__(which)
        return _Text(found) if isinstance(which, slice) else found


_SlowBatch: Any = default_records._DefaultRecordBatchPy  # noqa: SLF001 -- the one that can be derived from


class _TolerantBatch(_SlowBatch):  # type: ignore[misc]
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Slices(self._buffer)


class _Batch:
    """A batch of the compiled reader, read by the slow one from where that fails."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        # aiokafka reads the one record of a transaction's marker so.
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        done = 0
        try:
            for record in self._batch:
                yield record
                done += 1
        except (UnicodeDecodeError, CorruptRecordException):
            yield from islice(_TolerantBatch(bytearray(self._raw)), done, None)


class _Records:
    """What a fetch brought, as `MemoryRecords` has it."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._records: Any = MemoryRecords(data)
        self._at = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Batch | None:
        batch = self._records.next_batch()
        if batch is None:
            return None
        _, length = _PREFIX.unpack_from(self._data, self._at)
        begun, self._at = self._at, self._at + _PREFIX.size + length
        return _Batch(batch, self._data[begun : self._at])


def tolerate_foreign_header_names() -> None:
    """From now on let consumers of this process read a name that is no UTF-8 with U+FFFD for what cannot be decoded."""
    fetcher.MemoryRecords = _Records  # type: ignore[assignment, misc, unused-ignore]

"""Tensors of a TensorFlow checkpoint, without TensorFlow.

A checkpoint is an index, a table of LevelDB's format from names to entries, and a file of raw values (TensorFlow,
`tensorflow/core/util/tensor_bundle` and `protobuf/tensor_bundle.proto`; LevelDB, `doc/table_format.md`).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

_MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER: Final = 48
# Behind each block: how it is compressed, and its checksum.
_TRAILER: Final = 5
_FLOAT: Final = 1
# Fields of a `BundleEntryProto`, and of the shapes in it.
_DTYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5
_DIMENSION, _LENGTH = 2, 1


class CheckpointError(ValueError):
    """What should be a checkpoint is none that can be read here."""


def float_tensors(index: bytes, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the float32 tensors of a checkpoint in one part, by name.

    Raises:
        CheckpointError: it is none, is compressed, or ends too early.
    """
    found = {}
    try:
        for name, value in _entries(index):
            entry = _fields(value)
            if name and entry.get(_DTYPE) == _FLOAT:
                offset, size = _number(entry.get(_OFFSET, 0)), _number(entry[_SIZE])
                shape = [_number(_fields(each).get(_LENGTH, 0)) for each in _repeated(entry.get(_SHAPE, b""))]
                found[name.decode()] = np.frombuffer(data[offset : offset + size], dtype="<f4").reshape(shape)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"it is no checkpoint of TensorFlow: {error}") from error
    return found


def _entries(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of every data block that the index block names."""
    if index[-8:] != _MAGIC:
        raise ValueError("the index does not end as a table does")
    _, at = _handle(index, len(index) - _FOOTER)
    handle, _ = _handle(index, at)
    for _, value in _block(index, *handle):
        block, _ = _handle(value, 0)
        yield from _block(index, *block)


def _handle(buffer: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(buffer, at)
    size, at = _varint(buffer, at)
    return (offset, size), at


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; of a key only what differs from the key before is there."""
    block = index[offset : offset + size + _TRAILER]
    if block[size] != 0:
        raise ValueError("a block of the index is compressed")
    restarts = int.from_bytes(block[size - 4 : size], "little")
    at, end, key = 0, size - 4 * (restarts + 1), b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _wire(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}[kind]
        yield tag >> 3, message[at : at + size]
        at += size


def _fields(message: int | bytes) -> dict[int, int | bytes]:
    assert isinstance(message, bytes)
    return dict(_wire(message))


def _repeated(message: int | bytes) -> Iterator[bytes]:
    assert isinstance(message, bytes)
    yield from (value for field, value in _wire(message) if field == _DIMENSION and isinstance(value, bytes))


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError("a number is missing")
    return value

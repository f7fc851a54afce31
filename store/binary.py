"""Neighbour lists in Postgres's binary COPY format, encoded and decoded by numpy, a column at a time.

The format: a signature, two empty int32; for each row an int16 count of fields and for each field an int32 length and
the value, all big-endian; -1 at the end. An array is (dimensions, has nulls, element oid, length, lower bound) and then
each element with its own length. Source: PostgreSQL documentation, COPY, "Binary Format", and `array_send`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from store.rows import ListRows

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
OID_INT8, OID_FLOAT4 = 20, 700
ARRAY_HEADER = 20
EMPTY_ARRAY = 12
# Rows encoded at once, about 5 MB: large parts need few turns of the event loop.
PART_ROWS = 4096
# Microseconds from 1970 to 2000-01-01, where Postgres begins to count.
POSTGRES_EPOCH = 946_684_800_000_000

_INT_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])
_FLOAT_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


def _array_fields(name: str, element: np.dtype[Any], count: int) -> list[Any]:
    header = [(f"{name}_{part}", ">i4") for part in ("size", "dimensions", "nulls", "oid")]
    if count == 0:
        return header
    return [*header, (f"{name}_count", ">i4"), (f"{name}_lower", ">i4"), (name, element, (count,))]


def _row_type(count: int) -> np.dtype[Any]:
    plain = [
        ("version", ">i8"),
        ("source_partition", ">i2"),
        ("source_offset", ">i8"),
        ("event_time", ">i8"),
        ("generated_at", ">i8"),
    ]
    fields: list[Any] = [("fields", ">i2"), ("key_size", ">i4"), ("key", ">i8")]
    fields += _array_fields("neighbours", _INT_ELEMENT, count)
    fields += _array_fields("scores", _FLOAT_ELEMENT, count)
    for name, kind in plain:
        fields += [(f"{name}_size", ">i4"), (name, kind)]
    return np.dtype(fields)


def _fill_array(rows: npt.NDArray[Any], name: str, oid: int, values: npt.NDArray[Any], count: int) -> None:
    element = _INT_ELEMENT if oid == OID_INT8 else _FLOAT_ELEMENT
    rows[f"{name}_size"] = ARRAY_HEADER + count * element.itemsize if count else EMPTY_ARRAY
    rows[f"{name}_dimensions"] = 1 if count else 0
    rows[f"{name}_nulls"] = 0
    rows[f"{name}_oid"] = oid
    if count:
        rows[f"{name}_count"], rows[f"{name}_lower"] = count, 1
        rows[name]["length"] = element["value"].itemsize
        rows[name]["value"] = values[:, :count]


def encode_lists(rows: ListRows, *, version: int, generated_at: int) -> Iterator[bytes]:
    """Rows for COPY into (key, neighbours, scores, version, source_partition, source_offset, event_time, generated_at).

    Args:
        rows: The lists.
        version: The version that all of them get.
        generated_at: When they were made, microseconds since 1970.

    Yields:
        Parts of the stream, `PART_ROWS` lists each. Making one takes CPU time: not for the event loop.
    """
    yield HEADER
    # Almost all lists have full length: there are few groups.
    for count in np.unique(rows.lengths).tolist():
        group = np.flatnonzero(rows.lengths == count)
        for start in range(0, len(group), PART_ROWS):
            yield _encode_part(rows, group[start : start + PART_ROWS], count, version, generated_at)
    yield TRAILER


def _encode_part(
    rows: ListRows, which: npt.NDArray[np.int64], count: int, version: int, generated_at: int
) -> bytes:
    encoded = np.empty(len(which), dtype=_row_type(count))
    encoded["fields"] = 8
    _fill_array(encoded, "neighbours", OID_INT8, rows.neighbours[which], count)
    _fill_array(encoded, "scores", OID_FLOAT4, rows.scores[which], count)
    columns = {
        "key": rows.keys[which],
        "version": version,
        "source_partition": rows.partitions[which],
        "source_offset": rows.offsets[which],
        "event_time": rows.event_times[which] - POSTGRES_EPOCH,
        "generated_at": generated_at - POSTGRES_EPOCH,
    }
    for name, values in columns.items():
        encoded[f"{name}_size"] = encoded.dtype[name].itemsize
        encoded[name] = values
    return encoded.tobytes()


def decode_array(sent: list[bytes], oid: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Arrays in the format of `array_send` as one matrix, padded with zeros, and the length of each."""
    element = _INT_ELEMENT if oid == OID_INT8 else _FLOAT_ELEMENT
    sizes = np.fromiter((len(value) for value in sent), dtype=np.int64, count=len(sent))
    lengths = np.maximum(sizes - ARRAY_HEADER, 0) // element.itemsize
    width = int(lengths.max(initial=0))
    matrix = np.zeros((len(sent), width), dtype=element["value"].newbyteorder("="))
    for count in np.unique(lengths[lengths > 0]).tolist():
        which = np.flatnonzero(lengths == count)
        joined = b"".join(sent[i][ARRAY_HEADER:] for i in which.tolist())
        matrix[which, :count] = np.frombuffer(joined, dtype=element).reshape(-1, count)["value"]
    return matrix, lengths

"""The format of binary COPY and of sent arrays; that Postgres reads and writes it is shown by the store's tests."""

import struct

import numpy as np
import pytest

from store.binary import HEADER, OID_FLOAT4, OID_INT8, POSTGRES_EPOCH, TRAILER, decode_array, encode_lists
from store.rows import ListRows

pytestmark = pytest.mark.unit


def rows(*lists: list[int]) -> ListRows:
    """A list for each key from 1; scores are a hundredth of the neighbours."""
    width = max(map(len, lists))
    neighbours = np.zeros((len(lists), width), dtype=np.int64)
    for row, held in enumerate(lists):
        neighbours[row, : len(held)] = held
    count = len(lists)
    return ListRows(
        keys=np.arange(1, count + 1),
        neighbours=neighbours,
        scores=(neighbours / 100).astype(np.float32),
        lengths=np.array([len(held) for held in lists]),
        partitions=np.full(count, 3, dtype=np.int32),
        offsets=np.full(count, 41),
        event_times=np.full(count, POSTGRES_EPOCH + 5),
    )


def sent_array(oid: int, kind: str, values: list[int]) -> bytes:
    """What `array_send` writes, by the documentation."""
    if not values:
        return struct.pack(">iii", 0, 0, oid)
    size = struct.calcsize(kind)
    elements = b"".join(struct.pack(f">i{kind}", size, value) for value in values)
    return struct.pack(">iiiii", 1, 0, oid, len(values), 1) + elements


def test_a_row_is_written_field_by_field() -> None:
    """Eight fields, each with its length; moments count from 2000-01-01."""
    header, body, trailer = encode_lists(rows([7, 8]), version=9, generated_at=POSTGRES_EPOCH + 6)
    neighbours, scores = sent_array(OID_INT8, "q", [7, 8]), sent_array(OID_FLOAT4, "f", [0.07, 0.08])  # type: ignore[list-item]
    expected = struct.pack(">hiq", 8, 8, 1)
    for array in (neighbours, scores):
        expected += struct.pack(">i", len(array)) + array
    expected += struct.pack(">iqihiqiqiq", 8, 9, 2, 3, 8, 41, 8, 5, 8, 6)
    assert (header, body, trailer) == (HEADER, expected, TRAILER)


def test_lists_of_one_length_are_written_together() -> None:
    """An empty list is an array without dimensions; every row is written once."""
    parts = list(encode_lists(rows([5], [], [6], [7, 8]), version=1, generated_at=POSTGRES_EPOCH))
    assert len(parts) == 2 + 3
    starts = [struct.unpack_from(">hiq", part)[2] for part in parts[1:-1]]
    assert starts == [2, 1, 4]
    assert sent_array(OID_INT8, "q", []) in parts[1]
    assert parts[2].count(struct.pack(">hi", 8, 8)) >= 2


@pytest.mark.parametrize(("oid", "kind"), [(OID_INT8, "q"), (OID_FLOAT4, "f")])
def test_sent_arrays_become_one_padded_matrix(oid: int, kind: str) -> None:
    """Of any lengths, in their order; the lengths say how much counts."""
    sent = [sent_array(oid, kind, values) for values in ([1, 2, 3], [], [4], [5, 6, 7])]
    matrix, lengths = decode_array(sent, oid)
    assert matrix.tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0], [5, 6, 7]]
    assert lengths.tolist() == [3, 0, 1, 3]
    assert matrix.dtype.isnative


def test_no_arrays_are_an_empty_matrix() -> None:
    """A page without lists has none."""
    matrix, lengths = decode_array([], OID_INT8)
    assert (matrix.shape, lengths.shape) == ((0, 0), (0,))

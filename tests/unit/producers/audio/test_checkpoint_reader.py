"""Tensors out of a TensorFlow checkpoint that the test writes byte by byte."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.producers.audio.checkpoint import CheckpointError, float_tensors

pytestmark = pytest.mark.unit


def varint(value: int) -> bytes:
    """A number as protocol buffers and LevelDB write it."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table's block, keys prefix-compressed, with its trailer."""
    made, before = b"", b""
    for key, value in entries:
        shared = next((at for at, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), None)
        shared = min(len(key), len(before)) if shared is None else shared
        rest = key[shared:]
        made += varint(shared) + varint(len(rest)) + varint(len(value)) + rest + value
        before = key
    return made + bytes(4) + (1).to_bytes(4, "little") + bytes(5)


def checkpoint(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint of one part."""
    data, entries = b"", [(b"", field(1, 1))]
    for name, tensor in sorted(tensors.items()):
        shape = b"".join(field(2, field(1, size)) for size in tensor.shape)
        kind = 1 if tensor.dtype == np.float32 else 9
        crc = varint(6 << 3 | 5) + bytes(4)
        entry = field(1, kind) + field(2, shape) + field(4, len(data)) + field(5, tensor.nbytes) + crc
        entries.append((name.encode(), entry))
        data += tensor.tobytes()
    blocks, handles = b"", []
    for part in (entries[:2], entries[2:]):
        if part:
            made = block(part)
            handles.append((part[-1][0], varint(len(blocks)) + varint(len(made) - 5)))
            blocks += made
    index = block(handles)
    footer = varint(0) + varint(0) + varint(len(blocks)) + varint(len(index) - 5)
    magic = (0xDB4775248B80FB57).to_bytes(8, "little")
    return blocks + index + footer.ljust(40, b"\0") + magic, data


TENSORS = {
    "conv2d/bias": np.arange(3, dtype=np.float32),
    "conv2d/kernel": np.arange(300, dtype=np.float32).reshape(10, 5, 6),
    "conv2d_1/kernel": np.ones((1, 2), dtype=np.float32),
    "power": np.float32(0.5).reshape(()),
    "step": np.arange(2, dtype=np.int64),
}


def test_tensors_come_back_with_names_and_shapes() -> None:
    """Those of float32, scalars among them; others are passed over."""
    found = float_tensors(*checkpoint(TENSORS))
    assert found.keys() == TENSORS.keys() - {"step"}
    for name, tensor in found.items():
        assert tensor.shape == TENSORS[name].shape
        assert np.array_equal(tensor, TENSORS[name])


@given(st.binary(max_size=400), st.booleans(), st.data())
def test_what_is_no_checkpoint_is_refused(noise: bytes, whole: bool, data: st.DataObject) -> None:
    """Whatever the bytes, nothing else is raised: noise, noise that ends well, a checkpoint cut or with a byte changed."""
    index, values = checkpoint(TENSORS)
    if whole:
        at = data.draw(st.integers(0, len(index) - 1))
        broken = index[:at] + bytes([data.draw(st.integers(0, 255))]) + index[at + 1 :]
    else:
        broken = noise + index[-data.draw(st.integers(1, 48)) :]
    with contextlib.suppress(CheckpointError):
        assert isinstance(float_tensors(broken, values), dict)

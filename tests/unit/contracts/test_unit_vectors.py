"""Vectors of unit length, and the numbers that they are read from."""

import base64
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streams.contracts.embeddings import (
    MAX_DIMENSION,
    embedding_components,
    encode_embedding,
    read_embedding,
    unit_vector,
)
from streams.contracts.reasons import InvalidEvent, Reason

pytestmark = pytest.mark.unit

anything = arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False))


@given(vector=anything)
def test_whatever_its_size_a_vector_keeps_its_direction(vector: np.ndarray) -> None:
    """From the smallest number that there is to the largest, whose squares do not fit."""
    assume(vector.any())
    made = unit_vector(vector)
    assert made.dtype == np.float32
    assert float(made.astype(np.float64) @ made.astype(np.float64)) == pytest.approx(1, abs=1e-5)
    largest = int(np.abs(vector).argmax())
    assert np.signbit(made[largest]) == np.signbit(vector[largest])
    np.testing.assert_allclose(made, unit_vector(vector / np.abs(vector[largest])), atol=1e-6)


def test_what_is_returned_cannot_be_changed() -> None:
    """It is shared by everyone who reads the track."""
    with pytest.raises(ValueError, match="read-only"):
        unit_vector([1.0, 2.0])[0] = 0


@pytest.mark.parametrize(
    ("values", "reason", "said"),
    [
        ([], Reason.INVALID_EMBEDDING, "embedding is empty"),
        ([[1.0]], Reason.INVALID_EMBEDDING, "embedding must have one axis, not shape (1, 1)"),
        ([[1.0], [1.0, 2.0]], Reason.INVALID_EMBEDDING, "embedding is not a list of numbers"),
        (np.array([True]), Reason.INVALID_EMBEDDING, "embedding must hold real numbers, not bool"),
        (np.array(["1"]), Reason.INVALID_EMBEDDING, "embedding must hold real numbers, not <U1"),
        (np.array([1j]), Reason.INVALID_EMBEDDING, "embedding must hold real numbers, not complex128"),
        ([10**400], Reason.NOT_FINITE, "embedding has an integer too large for a float"),
        ([1.0, math.nan], Reason.NOT_FINITE, "embedding[1] is nan"),
        ([1.0, 2.0, -math.inf], Reason.NOT_FINITE, "embedding[2] is -inf"),
        ([0.0, -0.0], Reason.ZERO_VECTOR, "every component of the embedding is zero"),
        ([1.0] * (MAX_DIMENSION + 1), Reason.WRONG_DIMENSION, "embedding has 16,385 components; at most 16,384 are allowed"),
    ],
)  # fmt: skip
def test_what_has_no_direction_is_refused_with_the_place(values: Any, reason: Reason, said: str) -> None:
    """In words that name the component at fault."""
    with pytest.raises(InvalidEvent) as error:
        unit_vector(values)
    assert (error.value.reason, error.value.detail) == (reason, said)


@pytest.mark.parametrize(
    ("embedding", "said"),
    [
        ("1,2", "embedding must be a list of numbers or an object, not text"),
        ([1, True], "embedding[1] must be a number, not a boolean"),
        ([1, "2"], "embedding[1] must be a number, not text"),
        ({}, "embedding is empty"),
        ({"dtype": "float64", "data": ""}, "embedding.dtype must be float32 or float16, not 'float64'"),
        ({"dtype": "float32"}, "embedding.data must be base64 text"),
        ({"dtype": "float32", "data": "AAAA\n"}, "embedding.data is not standard base64 with padding"),
        ({"dtype": "float32", "data": "AAA"}, "embedding.data is not standard base64 with padding"),
        ({"dtype": "float32", "data": "AAAA"}, "embedding.data is 3 bytes long, which is no whole number of float32"),
        ({"dtype": "float32", "x": [1]}, "embedding has 'x' beside dtype or data; packed, it has no parts"),
        ({"1st": [1]}, "embedding has a part '1st': a name is a letter, then up to 63 letters, digits, _ or -"),
        ({"a": [None]}, "embedding.a[0] must be a number, not null"),
    ],
)  # fmt: skip
def test_what_is_no_embedding_is_refused_with_what_it_is(embedding: Any, said: str) -> None:
    """A number in quotes is none, and a truth value is none."""
    with pytest.raises(InvalidEvent) as error:
        embedding_components(embedding)
    assert (error.value.reason, error.value.detail) == (Reason.INVALID_EMBEDDING, said)


@given(vector=anything, encoding=st.sampled_from(["float32", "float16", "json"]))
def test_what_is_encoded_is_read_as_it_was(vector: np.ndarray, encoding: Any) -> None:
    """In half precision nearly: what is sent has unit length, so that nothing overflows."""
    assume(vector.any())
    sent = encode_embedding(vector, encoding)
    read, layout = read_embedding(embedding_components(sent if encoding != "json" else sent.tolist()), None)
    assert layout.dimension == len(vector)
    np.testing.assert_allclose(read, unit_vector(vector), atol=1e-3 if encoding == "float16" else 1e-6)


def test_packed_numbers_are_little_endian() -> None:
    """Whatever machine writes them."""
    packed = {"dtype": "float32", "data": base64.b64encode(b"\x00\x00\x80\x3f\x00\x00\x00\x40").decode()}
    components = embedding_components(packed)
    assert isinstance(components, np.ndarray)
    assert components.tolist() == [1.0, 2.0]

"""Embeddings of events and questions: a list of numbers, packed, or an object of named parts of either."""

import base64
import binascii
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from streams.contracts.reasons import InvalidEvent, Reason, quote_value
from streams.contracts.validation import NO_OTHER_NAMES, json_kind
from streams.strategies.aspects import (
    MAX_ASPECTS,
    NAME_PATTERN,
    RESERVED,
    Expected,
    FirstTrack,
    Layout,
    is_name,
)

MAX_DIMENSION: Final = 16_384
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_NUMBERS: Final = frozenset({float, int})
_THE: Final = {"embedding": "the embedding"}

Encoding = Literal["float32", "float16", "json"]
Components = list[float] | npt.NDArray[np.floating[Any]]


class EncodedEmbedding(BaseModel):
    """An embedding as packed little-endian floats in base64: a third of the size of a JSON list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "float16"] = Field(description="Type of one component")
    data: str = Field(
        description="Standard base64, with padding",
        examples=["AACAPwAAAEA="],
        json_schema_extra={
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "minLength": 4,
        },
    )


# Said in schemas alone: the error of `unit_vector` names what is empty.
_Numbers = Annotated[list[float], Field(json_schema_extra={"minItems": 1})]
ListOrPacked = _Numbers | EncodedEmbedding
Parts = Annotated[
    dict[Annotated[str, Field(pattern=NAME_PATTERN)], ListOrPacked | None],
    Field(
        min_length=1,
        max_length=MAX_ASPECTS,
        description="Named parts (aspects) of the embedding; one that is absent, null or all zero says nothing",
        json_schema_extra={
            **NO_OTHER_NAMES,
            "not": {"anyOf": [{"required": [name]} for name in sorted(RESERVED)]},
        },
    ),
]


def unit_vector(
    values: npt.ArrayLike, *, dimension: int | None = None, name: str = "embedding"
) -> npt.NDArray[np.float32]:
    """`values` scaled to unit length.

    They are scaled by the largest component first, so that the norm neither overflows nor vanishes; computed in float64.

    Args:
        values: (d,) real numbers.
        dimension: the d that is required, if it is known.
        name: what a refusal calls them.

    Returns:
        (d,) float32, read-only.

    Raises:
        InvalidEvent: `invalid_embedding`, `wrong_dimension`, `not_finite` or `zero_vector`.
    """
    # numpy would convert text and booleans, too.
    if isinstance(values, np.ndarray) and values.dtype.kind not in "fiu":
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name} must hold real numbers, not {values.dtype}")
    try:
        vector = np.asarray(values, dtype=np.float64)
    except OverflowError:
        raise InvalidEvent(Reason.NOT_FINITE, f"{name} has an integer too large for a float") from None
    except (TypeError, ValueError):
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name} is not a list of numbers") from None
    if vector.ndim != 1:
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name} must have one axis, not shape {vector.shape}")
    _check_dimension(len(vector), dimension, name)
    # Functions of `math` and the ufunc's own `reduce` are faster here: this is a hot path.
    largest = float(np.maximum.reduce(np.abs(vector)))
    if not math.isfinite(largest):
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidEvent(Reason.NOT_FINITE, f"{name}[{at}] is {vector[at]}")
    if largest == 0.0:
        raise InvalidEvent(Reason.ZERO_VECTOR, f"every component of {_THE.get(name, name)} is zero")
    scaled = vector / largest
    unit: npt.NDArray[np.float32] = (scaled / math.sqrt(scaled @ scaled)).astype(np.float32)
    unit.flags.writeable = False
    return unit


def _check_dimension(found: int, expected: int | None, name: str) -> None:
    if found == 0:
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name} is empty")
    if expected is not None and found != expected:
        raise InvalidEvent(
            Reason.WRONG_DIMENSION, f"{name} has {found:,} components; this catalogue has {expected:,}"
        )
    if found > MAX_DIMENSION:
        raise InvalidEvent(
            Reason.WRONG_DIMENSION,
            f"{name} has {found:,} components; at most {MAX_DIMENSION:,} are allowed",
        )


def read_embedding(
    components: Components | Mapping[str, Components | None], expected: Expected
) -> tuple[npt.NDArray[np.float32], Layout]:
    """The vector of an embedding, as in `TrackUpsert`, and its layout.

    Args:
        components: from `embedding_components`.
        expected: what the vector must be made up of.

    Raises:
        InvalidEvent: as `unit_vector`, or `wrong_aspects`.
    """
    expected = expected or FirstTrack()
    if not isinstance(components, Mapping):
        if names := expected.names if isinstance(expected, Layout) else sorted(expected.weights or ()):
            raise InvalidEvent(Reason.WRONG_ASPECTS, f"embedding has no parts; {_has(names)}")
        vector = unit_vector(components, dimension=expected.dimension)
        return vector, expected if isinstance(expected, Layout) else Layout(len(vector), model=expected.model)
    layout = expected if isinstance(expected, Layout) else _first_layout(components, expected)
    if other := [name for name in components if name not in layout.names]:
        raise InvalidEvent(
            Reason.WRONG_ASPECTS, f"embedding has a part {quote_value(other[0])}; {_has(layout.names)}"
        )
    return layout.join(_units(components, layout)), layout


def _first_layout(parts: Mapping[str, Components | None], wanted: FirstTrack) -> Layout:
    """The layout that the first track fixes."""
    if wanted.dimension is not None:
        raise InvalidEvent(Reason.WRONG_ASPECTS, f"embedding has a part {next(iter(parts))!r}; {_has(())}")
    sizes, weights = _sizes(parts), wanted.weights
    if weights and weights.keys() != sizes.keys():
        said = f"embedding has the parts {', '.join(sizes)}; {_has(sorted(weights))}"
        raise InvalidEvent(Reason.WRONG_ASPECTS, said)
    layout = Layout.of_sizes(sizes, weights)
    # An empty part is refused by its own name.
    if layout.dimension:
        _check_dimension(layout.dimension, None, "embedding")
    return replace(layout, model=wanted.model)


def _has(names: Sequence[str]) -> str:
    said = f"the parts {', '.join(names)}" if names else "no parts"
    return f"this catalogue's embeddings have {said}"


def _sizes(parts: Mapping[str, Components | None]) -> dict[str, int]:
    """The sizes of the parts that the first track fixes."""
    sizes = {}
    for name, components in sorted(parts.items()):
        if components is None:
            raise InvalidEvent(
                Reason.INVALID_EMBEDDING,
                f"embedding.{name} is null, and no track has fixed how many components it has",
            )
        sizes[name] = len(components)
    return sizes


def _units(parts: Mapping[str, Components | None], layout: Layout) -> dict[str, npt.NDArray[np.float32]]:
    """The parts that say something, each of unit length."""
    units = {}
    for aspect in layout.aspects:
        components = parts.get(aspect.name)
        if components is None:
            continue
        try:
            name = f"embedding.{aspect.name}"
            units[aspect.name] = unit_vector(components, dimension=aspect.size, name=name)
        except InvalidEvent as error:
            if error.reason is not Reason.ZERO_VECTOR:
                raise
    if not units:
        raise InvalidEvent(Reason.ZERO_VECTOR, "every part of the embedding is missing or zero")
    return units


def embedding_components(embedding: object) -> Components | dict[str, Components | None]:
    """The numbers of an embedding: a list, packed, or an object of such parts; `read_embedding` makes a vector of them.

    An object with a member `dtype` or `data` is a packed embedding, and any other one has parts.

    Raises:
        InvalidEvent: `invalid_embedding`.
    """
    if not isinstance(embedding, dict) or not embedding or not RESERVED.isdisjoint(embedding):
        return _components(embedding, "embedding")
    _check_names(embedding)
    return {
        name: None if part is None else _components(part, f"embedding.{name}")
        for name, part in embedding.items()
    }


def _check_names(names: Collection[object]) -> None:
    if len(names) > MAX_ASPECTS:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"embedding has {len(names)} parts; at most {MAX_ASPECTS} are allowed"
        )
    for name in names:
        if not is_name(name):
            raise InvalidEvent(
                Reason.INVALID_EMBEDDING,
                f"embedding has a part {quote_value(name)}: a name is a letter, then up to 63 letters, digits, _ or -",
            )


def _components(embedding: object, name: str) -> Components:
    if isinstance(embedding, dict):
        if not embedding:
            raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name} is empty")
        other = [key for key in embedding if key not in RESERVED]
        if other and len(other) < len(embedding):
            raise InvalidEvent(
                Reason.INVALID_EMBEDDING,
                f"{name} has {quote_value(other[0])} beside dtype or data; packed, it has no parts",
            )
        return _decode(embedding, name)
    if not isinstance(embedding, list):
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING,
            f"{name} must be a list of numbers or an object, not {json_kind(embedding)}",
        )
    # numpy would read True as 1.0 and "1.5" as 1.5.
    if not _NUMBERS.issuperset(map(type, embedding)):
        at, item = next((i, x) for i, x in enumerate(embedding) if type(x) not in _NUMBERS)
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{name}[{at}] must be a number, not {json_kind(item)}")
    return embedding


def _decode(embedding: Mapping[str, Any], field: str) -> npt.NDArray[np.floating[Any]]:
    name, data = embedding.get("dtype"), embedding.get("data")
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"{field}.dtype must be float32 or float16, not {quote_value(name)}"
        )
    if not isinstance(data, str):
        raise InvalidEvent(Reason.INVALID_EMBEDDING, f"{field}.data must be base64 text")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING, f"{field}.data is not standard base64 with padding"
        ) from None
    if len(raw) % dtype.itemsize:
        raise InvalidEvent(
            Reason.INVALID_EMBEDDING,
            f"{field}.data is {len(raw):,} bytes long, which is no whole number of {name}",
        )
    return np.frombuffer(raw, dtype)


def encode_embedding(vector: npt.ArrayLike | Mapping[str, npt.ArrayLike], encoding: Encoding) -> Any:
    """An embedding as an event holds it, at unit length: its direction counts, and every component fits a narrower type.

    Args:
        vector: (d,) real numbers, finite, not all zero; or parts by name, each (d_p,), of which some may be all zero.
        encoding: as in `encode_track`.

    Raises:
        InvalidEvent: as `read_embedding`.
    """
    if isinstance(vector, Mapping):
        return _encode_parts(vector, encoding)
    return _encode(unit_vector(vector), encoding)


def _encode_parts(parts: Mapping[str, npt.ArrayLike], encoding: Encoding) -> dict[str, Any]:
    """Every part at unit length; one that is missing as zeros, so that a reader learns its size."""
    _check_names(parts)
    arrays = {name: np.atleast_1d(np.asarray(part)) for name, part in parts.items()}
    layout = read_embedding(arrays, None)[1]
    units = _units(arrays, layout)
    return {
        a.name: _encode(units.get(a.name, np.zeros(a.size, dtype=np.float32)), encoding)
        for a in layout.aspects
    }


def _encode(unit: npt.NDArray[np.float32], encoding: Encoding) -> Any:
    if encoding == "json":
        return unit
    packed = np.ascontiguousarray(unit, _DTYPES[encoding]).tobytes()
    return {"dtype": encoding, "data": base64.b64encode(packed).decode()}

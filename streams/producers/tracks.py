"""From a vector and facts to a message: what every source of embeddings has in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy.typing as npt

from streams.contracts import InvalidEvent, Reason, TrackMetadata, check_track_id
from streams.contracts.embeddings import Encoding
from streams.contracts.tracks import encode_track, read_metadata
from streams.producers.axes import AxisReader, Pooling, Roles
from streams.producers.items import Position, RefusedRecord, TrackItem
from streams.producers.joining import AmbiguousName, Match
from streams.producers.presets import Facts
from streams.producers.report import SourceReport
from streams.producers.tables import MetadataTable
from streams.strategies.aspects import FirstTrack

UNREADABLE: Final = "unreadable_file"
WRONG_SHAPE: Final = "wrong_shape"
DUPLICATE: Final = "duplicate_track_id"
AMBIGUOUS: Final = "ambiguous_metadata"
NO_METADATA: Final = "no_metadata"


class TrackRefusedError(ValueError):
    """A track that is not sent.

    Attributes:
        reason: a `Reason` of the event contract, or one of this module's.
        detail: one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = str(reason)
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """How embeddings are read and sent.

    Attributes:
        pooling: How layers become one vector.
        axes: What the axes are, where that is said.
        layers: How many layers there are; None: 13.
        width: How wide a layer is; None: 768.
        key: Name of the array in files of several.
        dimension: The catalogue's, whose vectors have no parts; None: what the first vector has.
        model: The name of the model that made the embeddings; None: they come without a name.
        encoding: How vectors travel.
        strict: Refuse a track for a cell that cannot be read.
        require_metadata: Refuse a track that has no row in the table.
    """

    pooling: Pooling = field(default_factory=Pooling)
    axes: Roles | None = None
    layers: int | None = None
    width: int | None = None
    key: str | None = None
    dimension: int | None = None
    model: str | None = None
    encoding: Encoding = "float32"
    strict: bool = False
    require_metadata: bool = False

    @property
    def first_track(self) -> FirstTrack:
        """What the first vector must have."""
        return FirstTrack(self.dimension, model=self.model)

    def reader(self) -> AxisReader:
        """Return what tells the axes."""
        return AxisReader(self.axes, layers=self.layers, width=self.width)


class TrackEncoder:
    """Makes messages of vectors and facts, and counts in a report what was not understood.

    Args:
        report: where it is counted.
        options: how vectors travel, and how strict to be.
    """

    def __init__(self, report: SourceReport, options: EmbeddingOptions) -> None:
        self._report = report
        self._dimension = options.dimension
        self._encoding = options.encoding
        self._model = options.model
        self._strict = options.strict

    def metadata(self, track_id: str, facts: Mapping[str, Any]) -> TrackMetadata:
        """Return facts as the contract has them.

        Raises:
            InvalidEvent: they cannot be read.
        """
        metadata = read_metadata(dict(facts), strict=self._strict)
        self._report.count_unread(track_id, metadata.unread)
        return metadata

    def encode(
        self, track_id: str, vector: npt.NDArray[Any], facts: Mapping[str, Any], position: Position, done: int
    ) -> TrackItem:
        """Return the message.

        Raises:
            InvalidEvent: it breaks the contract.
        """
        check_track_id(track_id)
        if self._dimension is not None and len(vector) != self._dimension:
            raise InvalidEvent(
                Reason.WRONG_DIMENSION,
                f"embedding has {len(vector):,} components; this catalogue has {self._dimension:,}",
            )
        key, value = encode_track(
            track_id,
            vector,
            self.metadata(track_id, facts),
            encoding=self._encoding,
            model=self._model,
        )
        self._dimension = len(vector)
        return TrackItem(key, value, position, done)


def refused_track(
    error: InvalidEvent, where: str, track_id: str | None, position: Position, done: int
) -> RefusedRecord:
    """Return the refusal of a track whose array breaks the contract."""
    detail = "the features hold NaN or infinity" if error.reason is Reason.NOT_FINITE else error.detail
    return RefusedRecord(where, error.reason.value, detail, track_id, position, done)


def vector_of(array: npt.NDArray[Any] | None, axes: AxisReader, pooling: Pooling) -> npt.NDArray[Any]:
    """Return the vector of a track's array.

    Raises:
        TrackRefusedError: there is none, it holds no floats, or its shape cannot be read.
    """
    if array is None:
        raise TrackRefusedError(Reason.MISSING_EMBEDDING, "the row has no embedding, or one with gaps")
    if array.dtype.kind != "f":
        raise TrackRefusedError(WRONG_SHAPE, f"holds {array.dtype}, not float16, float32 or float64")
    try:
        return pooling.pool(array, axes.roles_of(array.shape))
    except ValueError as exc:
        raise TrackRefusedError(WRONG_SHAPE, str(exc)) from exc


def claim_track_id(track_id: str, where: str, seen: dict[str, str]) -> None:
    """Note whose a track id is.

    Raises:
        TrackRefusedError: it is another's.
    """
    if (other := seen.setdefault(track_id, where)) != where:
        raise TrackRefusedError(DUPLICATE, f"{other} has the same track id")


def row_facts(table: MetadataTable, match: Match, *, required: bool) -> Facts:
    """Return the facts of a track's row; nothing where it has none.

    Raises:
        TrackRefusedError: which row is its own cannot be told, or there is none and one is required.
    """
    if isinstance(match, AmbiguousName):
        both = " and ".join(match.candidates)
        raise TrackRefusedError(AMBIGUOUS, f"the table's row cannot be told: {both} fit equally well")
    if match is None and required:
        raise TrackRefusedError(NO_METADATA, "the table has no row for it")
    return table.facts(match) if match is not None else {}

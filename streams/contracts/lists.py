"""The change feed: a track's neighbour list after a change."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from streams.contracts.validation import TrackId
from streams.generations import DEFAULT_SPACE, FIRST_GENERATION, GenerationName


class SourceOffset(BaseModel):
    """Where in the log an event stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str = Field(description="Topic", examples=["track-ingest"])
    partition: int = Field(ge=0, description="Partition", examples=[3])
    offset: int = Field(ge=0, description="Offset", examples=[1207])


class ScoredTrack(BaseModel):
    """A neighbour and its cosine similarity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: TrackId
    score: float = Field(ge=-1.001, le=1.001, description="Cosine similarity", examples=[0.914])


class ListChange(BaseModel):
    """A track's list after a change, whole. A null value: the track was deleted, and its list with it.

    Changes are coalesced: a reader sees the latest list, at most once in each window, never every
    intermediate one. `added` and `removed` are exactly the difference to the track's message before; without one, or after
    a null, all is added. Where another generation comes to serve, each track's list in it is a change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: TrackId
    version: int = Field(
        ge=0, description="Names this list: grows with every change of it", examples=[1767225600042]
    )
    recommendations: list[ScoredTrack] = Field(max_length=50, description="The list, most similar first")
    added: list[TrackId] = Field(description="In this list, not in that of the message before")
    removed: list[TrackId] = Field(description="In the list of the message before, not in this one")
    source: SourceOffset = Field(description="The newest event that the list has taken in")
    generated_at: AwareDatetime = Field(
        description="When the list was computed", examples=["2026-02-03T04:05:06Z"]
    )
    space: str = Field(DEFAULT_SPACE, description="What the list means by similar")
    generation: int = Field(1, ge=1, description="The generation of the space whose list it is", examples=[2])
    reason: Literal["promoted"] | None = Field(
        None, description="`promoted`: the list is told because its generation has come to serve"
    )


# The JSON around ids and scores, see `_encode_neighbours`.
_FIRST, _SCORE, _NEXT, _LAST = b'[{"track_id":"', b'","score":', b'},{"track_id":"', b"}]"


def encode_scores(scores: npt.NDArray[np.float32]) -> list[list[bytes]]:
    """The scores of many lists as JSON: the shortest text that reads back as the same float32.

    Args:
        scores: (m, k) float32, finite.
    """
    encoded = orjson.dumps(np.ascontiguousarray(scores), option=orjson.OPT_SERIALIZE_NUMPY)
    return [row.split(b",") for row in encoded[2:-2].split(b"],[")]


def encode_list_change(  # noqa: PLR0913 -- the fields of a message
    track_id: str,
    *,
    version: int,
    neighbours: Sequence[str],
    scores: Sequence[bytes],
    added: Sequence[str],
    removed: Sequence[str],
    source: tuple[str, int, int],
    generated_at: datetime,
    generation: GenerationName = FIRST_GENERATION,
    promoted: bool = False,
) -> tuple[bytes, bytes]:
    """The key and value of a `ListChange`. No model is built: this is a hot path.

    Args:
        track_id: the track whose list it is.
        version: the list's version.
        neighbours: up to 50 track ids, most similar first.
        scores: their cosine similarities, from `encode_scores`.
        added: track ids that are new in the list since the message before.
        removed: track ids that have left the list since.
        source: topic, partition and offset of the newest event that the list has absorbed.
        generated_at: aware time of computation.
        generation: whose list it is.
        promoted: whether it is told because its generation has come to serve.
    """
    topic, partition, offset = source
    value = orjson.dumps(
        {
            "track_id": track_id,
            "version": version,
            "added": added,
            "removed": removed,
            "source": {"topic": topic, "partition": partition, "offset": offset},
            "generated_at": generated_at,
            "space": generation.space,
            "generation": generation.number,
            "reason": "promoted" if promoted else None,
        },
        option=orjson.OPT_UTC_Z,
    )
    listed = _encode_neighbours(neighbours, scores)
    return track_id.encode(), b"".join((value[:-1], b',"recommendations":', listed, b"}"))


def _encode_neighbours(neighbours: Sequence[str], scores: Sequence[bytes]) -> bytes:
    """A list of `ScoredTrack` as JSON. Dictionaries would take longer than everything else together."""
    count = len(neighbours)
    if not count:
        return b"[]"
    parts = [_SCORE] * (4 * count)
    # Within a string every quotation mark is escaped, so this only occurs between strings.
    parts[::4] = orjson.dumps(neighbours)[2:-2].split(b'","')
    parts[2::4] = scores
    parts[3::4] = [_NEXT] * count
    parts[-1] = _LAST
    return _FIRST + b"".join(parts)

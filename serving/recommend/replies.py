"""Builds JSON bodies from stored rows."""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from serving.recommend.explanations import SENTENCE
from serving.recommend.lists import TrackWithNeighbours
from serving.recommend.track_fragments import GONE_BEGUN, GONE_ENDED, TrackFragment, aspects_to
from store.list_history import PastList
from store.listed import ListHeader
from store.reads import StoredTrack, TrackRecord
from streams.contracts.rendering import entity_tag, filename_of, headline_fields
from streams.generations import DEFAULT_SPACE, GenerationName

JSON = "application/json"
_OPTIONS = orjson.OPT_UTC_Z
_SIMILARITY = "similarity"
# The middle of an item, between the two parts of its fragment: similarity, rank and explanation.
_RATED = (
    b',"similarity_score":%b,"aspects":%b,"rank":%d,"strategy_used":"similarity","explanation":' + SENTENCE
)

# Behind the similarity of a track that has been deleted, in `SENTENCE`.
_GONE = b"; the track has been deleted since"


def tag_ending(generation: GenerationName) -> str:
    """The end of an entity tag: a reader must not take a body of another generation for current, though its list be the same."""
    space = "" if generation.space == DEFAULT_SPACE else f"{generation.space}."
    return f'-{space}{generation.number}"'


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON; times in UTC with Z."""
    return Response(orjson.dumps(value, option=_OPTIONS), status, headers, JSON)


def track_summary(track: StoredTrack) -> dict[str, Any]:
    """A track with its most used fields."""
    return {
        "track_id": track.track_id,
        **headline_fields(track.metadata, filename_of(track.metadata["extra"])),
        "metadata": track.metadata,
    }


def track_detail(record: TrackRecord, topic: str) -> dict[str, Any]:
    """A track with its source event and the state of its list."""
    listed = None
    if record.list_version is not None:
        listed = {
            "version": record.list_version,
            "length": record.list_length,
            "generated_at": record.list_generated_at,
        }
    return {
        **track_summary(record.track),
        "source": _source(topic, record),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "neighbour_list": listed,
    }


def _source(topic: str, written: ListHeader | TrackRecord) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": written.source_partition,
        "offset": written.source_offset,
        "event_time": written.event_time,
    }


def list_body(found: TrackWithNeighbours, topic: str, wanted: int) -> tuple[bytes, str]:
    """The body of a stored list without the members of its delivery, as an open JSON object, and its weak entity tag.

    The bytes are equal as long as nothing stored changes. A note says why there are fewer than `wanted`. The tag is made of
    digests of the fragments, as hashing the whole body would take longer.
    """
    seed, count = found.seed, len(found.neighbours)
    told = _head(seed.track_id, seed, found.header, topic, count, wanted)
    scores = [score for _, score in found.neighbours]
    pieces, tagged = [told, b',"recommendations":['], [told]
    alike = aspects_to(found.layout, seed, [fragment for fragment, _ in found.neighbours])
    for rank, (written, (fragment, score), (aspects, extremes)) in enumerate(
        zip(_rounded(scores), found.neighbours, alike, strict=True), start=1
    ):
        said = extremes + fragment.facts.shared_with(seed.facts)
        rated = _RATED % (written, aspects, rank, score, said)
        pieces += (fragment.begun, written, rated, fragment.ended)
        tagged += (rated, fragment.digest)
    if count:
        pieces[2] = pieces[2][1:]  # no comma before the first
    pieces.append(b"]")
    return b"".join(pieces), entity_tag(b"".join(tagged))


def _head(
    track_id: str, seed: TrackFragment | None, header: ListHeader, topic: str, count: int, wanted: int
) -> bytes:
    """The members in front of a stored list's `count` recommendations, as an open JSON object."""
    members = {
        "reference_track": track_id,
        "reference_metadata": None if seed is None else orjson.Fragment(seed.metadata),
        "strategy": _SIMILARITY,
        "mode": None,
        "weights": None,
        "chosen": None,
        "provisional": False,
        "relaxed": [],
        "stages": [{"stage": "candidates", "held": header.length}],
        "notes": [] if count >= wanted else [_short(count, header.length)],
        "source": _source(topic, header),
        "generated_at": header.generated_at,
    }
    return orjson.dumps(members, option=_OPTIONS)[:-1]


def past_body(
    track_id: str,
    seed: TrackFragment | None,
    found: PastList,
    listed: Sequence[tuple[TrackFragment | None, float]],
    topic: str,
    wanted: int,
) -> tuple[bytes, str]:
    """The body of a list as it was, as an open JSON object like that of `list_body`, and its weak entity tag.

    Args:
        track_id: The list's track.
        seed: That track, as it is now; None: it has been deleted.
        found: The list.
        listed: Its neighbours as they are now, each with the similarity that it had; None: it has been deleted.
        topic: Of its source event.
        wanted: How many neighbours were asked for.
    """
    pieces = [_head(track_id, seed, found.header, topic, len(listed), wanted), b',"recommendations":[']
    scores = [score for _, score in listed]
    for rank, (written, (fragment, score)) in enumerate(zip(_rounded(scores), listed, strict=True), start=1):
        if fragment is None:
            rated = _RATED % (written, b"{}", rank, score, _GONE)
            pieces += (GONE_BEGUN, written, rated, GONE_ENDED)
            continue
        said = b"" if seed is None else fragment.facts.shared_with(seed.facts)
        # Aspects are not kept, and the vectors of now may be others.
        pieces += (fragment.begun, written, _RATED % (written, b"{}", rank, score, said), fragment.ended)
    if listed:
        pieces[2] = pieces[2][1:]  # no comma before the first
    ended = {"version": found.header.version, "replaced_at": found.replaced_at}
    pieces += (b"],", orjson.dumps(ended, option=_OPTIONS)[1:-1])
    body = b"".join(pieces)
    return body, entity_tag(body)


def _rounded(scores: list[float]) -> list[bytes]:
    """Each score as JSON, rounded to the precision of a float32 similarity.

    For a float32 this equals `round(score, 6)`, except for the sign of zero, at a third of its cost.
    """
    return orjson.dumps([round(score * 1e6) / 1e6 for score in scores])[1:-1].split(b",") if scores else []


def _short(count: int, length: int) -> str:
    left = f"only {count} candidate{' is' if count == 1 else 's are'} left"
    return f"{left}: the stored list holds {length}"


def materialised_body(answer: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A worker's answer as the worker stores it, byte for byte, and the tracks in it."""
    body = orjson.loads(answer)
    for name in ("space", "generation", "cached", "stale", "behind_seconds", "computation_time_ms"):
        body.pop(name, None)
    for item in body["recommendations"]:
        item["cached"] = True
    return orjson.dumps(body), mentioned_tracks(body)


def mentioned_tracks(body: dict[str, Any]) -> tuple[str, ...]:
    """The ids of every track in a body of recommendations for a track."""
    return (body["reference_track"], *(item["track_id"] for item in body["recommendations"]))


def matches_tag(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match header names `tag` (RFC 9110: compared weakly), or any."""
    opaque = tag.removeprefix("W/")
    given = (candidate.strip().removeprefix("W/") for candidate in if_none_match.split(","))
    return if_none_match.strip() == "*" or opaque in given

"""Bodies as they go over the wire, built from what the store holds."""

import hashlib
import time
from typing import Any

import orjson
from starlette.responses import Response

from serving.explanations import Explainer
from store.reads import ListHeader, Metadata, Neighbours, StoredTrack, TrackRecord

JSON = "application/json"
_OPTIONS = orjson.OPT_UTC_Z
_SIMILARITY = "similarity"
_NOTHING_MORE: dict[str, Any] = {"components": {}, "seed": None, "contributions": {}, "relaxed": []}
_DECIMALS = 6  # what a float32 similarity holds


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON; times in UTC with Z."""
    return Response(orjson.dumps(value, option=_OPTIONS), status, headers, JSON)


def summary(track: StoredTrack) -> dict[str, Any]:
    """A track with the fields most asked for."""
    return {"track_id": track.track_id, **_headline(track.metadata), "metadata": track.metadata}


def detail(record: TrackRecord, topic: str) -> dict[str, Any]:
    """A track with where it came from and the state of its list."""
    listed = None
    if record.list_version is not None:
        listed = {
            "version": record.list_version,
            "length": record.list_length,
            "generated_at": record.list_generated_at,
        }
    return {
        **summary(record.track),
        "source": _source(topic, record),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "neighbour_list": listed,
    }


def _headline(metadata: Metadata) -> dict[str, Any]:
    filename = metadata["extra"].get("filename")
    return {
        "title": metadata["title"],
        "composer": metadata["composer"],
        "composer_full": metadata["composer_full"],
        "era": metadata["era"],
        "form": metadata["form"],
        "key_signature": metadata["key_signature"],
        "filename": filename if isinstance(filename, str) else None,
        "tags": metadata["tags"],
    }


def _source(topic: str, written: ListHeader | TrackRecord) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": written.source_partition,
        "offset": written.source_offset,
        "event_time": written.event_time,
    }


def recommendation_bytes(found: Neighbours, header: ListHeader, topic: str, wanted: int) -> bytes:
    """The body of a stored list, without `cached`, `stale` and `computation_time_ms`, as an open JSON object.

    The same bytes as long as nothing stored changes. A note says why there are fewer than `wanted`.
    """
    seed = found.track
    explain = Explainer(seed.metadata).similarity
    items = []
    for rank, (track, similarity) in enumerate(found.neighbours, start=1):
        score = round(similarity, _DECIMALS)
        items.append(
            {
                "track_id": track.track_id,
                "score": score,
                "similarity_score": score,
                "rank": rank,
                "strategy_used": _SIMILARITY,
                "explanation": explain(track.metadata, similarity),
                **_NOTHING_MORE,
                **_headline(track.metadata),
                "cached": True,
                "metadata": track.metadata,
            }
        )
    body = {
        "reference_track": seed.track_id,
        "reference_metadata": seed.metadata,
        "strategy": _SIMILARITY,
        "mode": None,
        "chosen": None,
        "provisional": False,
        "relaxed": [],
        "stages": [{"stage": "candidates", "held": header.length}],
        "notes": [] if len(items) >= wanted else [_short(len(items), header.length)],
        "source": _source(topic, header),
        "generated_at": header.generated_at,
        "recommendations": items,
    }
    return orjson.dumps(body, option=_OPTIONS)[:-1]


def _short(count: int, length: int) -> str:
    left = f"only {count} candidate{' is' if count == 1 else 's are'} left"
    return f"{left}: the stored list holds {length}"


def as_kept(answer: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A worker's answer as it keeps it in the store, byte for byte, and the tracks that it mentions."""
    body = orjson.loads(answer)
    for name in ("cached", "stale", "computation_time_ms"):
        body.pop(name, None)
    for item in body["recommendations"]:
        item["cached"] = True
    return orjson.dumps(body), mentioned(body)


def mentioned(body: dict[str, Any]) -> tuple[str, ...]:
    """The ids of every track in a body of recommendations for a track."""
    return (body["reference_track"], *(item["track_id"] for item in body["recommendations"]))


def entity_tag(body: bytes) -> str:
    """A weak entity tag of a body without its timing: equal tags, equal content."""
    return f'W/"{hashlib.blake2b(body, digest_size=9).hexdigest()}"'


def matches_tag(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match header names `tag` (RFC 9110: compared weakly), or any."""
    opaque = tag.removeprefix("W/")
    given = (candidate.strip().removeprefix("W/") for candidate in if_none_match.split(","))
    return if_none_match.strip() == "*" or opaque in given


def sealed(body: bytes, *, stale: bool, began: float) -> bytes:
    """An open body with what changes from one delivery to the next, closed.

    Args:
        body: JSON object without its closing brace.
        stale: Whether a newer one is being computed.
        began: When the answer was begun, of `time.perf_counter`.
    """
    return b'%s,"cached":true,"stale":%s,"computation_time_ms":%.3f}' % (
        body,
        b"true" if stale else b"false",
        (time.perf_counter() - began) * 1000,
    )

"""The parts of bodies that workers and the API both write."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from streams.generations import GenerationName

# Fields that an item has beside all others under `metadata`.
_HEADLINE: Final = ("title", "composer", "composer_full", "era", "form", "key_signature")


def headline_fields(metadata: Mapping[str, Any], filename: str | None) -> dict[str, Any]:
    """The most used fields of a track, from all of them and `filename_of` its `extra`."""
    return {**{name: metadata[name] for name in _HEADLINE}, "filename": filename, "tags": metadata["tags"]}


def filename_of(extra: Mapping[str, Any]) -> str | None:
    """The `filename` of a track's `extra`; None if it has none, or one that is no text."""
    filename = extra.get("filename")
    return filename if isinstance(filename, str) else None


def track_members(metadata: Mapping[str, Any], filename: str | None, whole: object = None) -> bytes:
    """The members of an item that depend on its track alone, as the inside of a JSON object.

    Args:
        metadata: All fields of the track; an `orjson.Fragment` may stand for any but those of the headline.
        filename: From `filename_of`.
        whole: What to write as `metadata`: an `orjson.Fragment` of it, if it has been encoded before.
    """
    members = {**headline_fields(metadata, filename), "metadata": metadata if whole is None else whole}
    return orjson.dumps(members, option=orjson.OPT_UTC_Z)[1:-1]


def entity_tag(body: bytes) -> str:
    """A weak entity tag of a body without the members of its delivery: equal tags, equal content."""
    return f'W/"{hashlib.blake2b(body, digest_size=9).hexdigest()}"'


def generation_members(generation: GenerationName) -> bytes:
    """The members of a body that name the generation it is of, each after a comma."""
    return b',"space":"%b","generation":%d' % (generation.space.encode(), generation.number)


def delivery_members(
    of: bytes, *, cached: bool, stale: bool, milliseconds: float, behind_seconds: float = 0.0
) -> bytes:
    """The end of a body, behind its other members: its generation, what changes with each delivery, and the closing brace.

    Args:
        of: `generation_members` of its generation: stored bodies do not name it.
        cached: Whether it was stored.
        stale: Whether a newer one is being computed.
        milliseconds: What it took.
        behind_seconds: How old the oldest event is that it lacks.
    """
    return b'%b,"cached":%b,"stale":%b,"behind_seconds":%.3f,"computation_time_ms":%.3f}' % (
        of,
        b"true" if cached else b"false",
        b"true" if stale else b"false",
        behind_seconds,
        milliseconds,
    )


def finished_body(opened: bytes, of: bytes, *, cached: bool, stale: bool, milliseconds: float) -> bytes:
    """A whole body, from the JSON object of all members but those of its delivery; arguments as for `delivery_members`."""
    ending = delivery_members(of, cached=cached, stale=stale, milliseconds=milliseconds)
    return b"%s%s" % (memoryview(opened)[:-1], ending)

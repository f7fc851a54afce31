"""Converts the JSON body of recommendations to playlists: JSPF, XSPF and M3U8.

JSPF and XSPF are those of https://xspf.org, with MusicBrainz's extension for its ids; M3U8 is the extended M3U in UTF-8 that
players read.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

import orjson

from serving import problems


class ListFormat(StrEnum):
    """The formats of a list of recommendations."""

    JSON = "json"
    JSPF = "jspf"
    XSPF = "xspf"
    M3U8 = "m3u8"


MEDIA_TYPES: Final = {
    ListFormat.JSON: "application/json",
    ListFormat.JSPF: "application/jspf+json",
    ListFormat.XSPF: "application/xspf+xml",
    ListFormat.M3U8: "application/vnd.apple.mpegurl",
}
# The headers that an answer depends on.
VARY: Final = {"vary": "accept"}
# Aliases of the formats.
_ALSO: Final = {
    "audio/x-mpegurl": ListFormat.M3U8,
    "audio/mpegurl": ListFormat.M3U8,
    "application/x-mpegurl": ListFormat.M3U8,
    "application/problem+json": ListFormat.JSON,
}
_BY_TYPE: Final = {**{media: form for form, media in MEDIA_TYPES.items()}, **_ALSO}
# An `Accept` for which there is anything but JSON to think of.
_CHOOSY: Final = re.compile(rb"spf|mpegurl|;", re.IGNORECASE)
_ANY: Final = re.compile(rb"\*/\*|application/(\*|json)", re.IGNORECASE)
_MUSICBRAINZ: Final = "https://musicbrainz.org"
_TRACK_EXTENSION: Final = f"{_MUSICBRAINZ}/doc/jspf#track"
# Keys of `extra` with a track's location; the first one present counts.
LOCATION_KEYS: Final = ("location", "url", "preview_url", "path", "filename")
_NAMESPACE: Final = "http://xspf.org/ns/0/"
# Characters that XML 1.0 cannot hold.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_ENDS: Final = re.compile(r"\s*[\x00-\x1f\x7f\x85\u2028\u2029]+\s*")


def is_plain(accept: bytes) -> bool:
    """Whether an `Accept` header is answered with JSON, without a closer look."""
    return not _CHOOSY.search(accept) and _ANY.search(accept) is not None


def wanted_format(accept: str, query_string: bytes = b"") -> ListFormat:
    """The format that a request asks for, by `format=` or else by `Accept`; JSON by default.

    Args:
        accept: The header.
        query_string: Of a request whose parameters have been checked.

    Raises:
        ProblemError: 406, where it accepts none of them.
    """
    named = parse_qs(query_string.decode("latin-1"), keep_blank_values=True).get("format")
    if named is not None:
        return ListFormat(named[-1])
    if not accept.strip():
        return ListFormat.JSON
    best = max(_rated(accept), default=None)
    if best is None or best[0] <= 0:
        raise problems.not_acceptable(list(MEDIA_TYPES.values()))
    return best[-1]


def _rated(accept: str) -> Iterator[tuple[float, int, int, ListFormat]]:
    """Each format with its quality, the precision of its match, and our preference (RFC 9110, 12.5.1)."""
    ranges = [_media_range(each) for each in accept.split(",")]
    for place, form in enumerate(ListFormat):
        names = [name for name, of in _BY_TYPE.items() if of is form]
        found = [
            (precise, quality)
            for name in names
            for wanted, quality in ranges
            if (precise := _precision(wanted, name)) is not None
        ]
        if found:
            precise, quality = max(found)
            yield quality, precise, -place, form


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _precision(wanted: str, name: str) -> int | None:
    if wanted == name:
        return 2
    if wanted == f"{name.partition('/')[0]}/*":
        return 1
    return 0 if wanted == "*/*" else None


@dataclass(frozen=True)
class _Entry:
    """One track of a playlist."""

    track_id: str
    title: str
    creator: str | None
    album: str | None
    milliseconds: int | None
    annotation: str
    location: str | None
    recording: str | None
    metadata: Mapping[str, Any]

    @property
    def identifiers(self) -> list[str]:
        """URIs of the track: MusicBrainz's if known, and ours."""
        ours = f"urn:mess-ai:track:{quote(self.track_id, safe='')}"
        return [ours] if self.recording is None else [f"{_MUSICBRAINZ}/recording/{self.recording}", ours]


def render_playlist(body: bytes, wanted: ListFormat) -> bytes:
    """A body of recommendations, written as a playlist.

    Raises:
        ProblemError: 406: the body is no list; 422: an M3U8 is a list of locations, and none is known.
    """
    found: dict[str, Any] = orjson.loads(body)
    if "recommendations" not in found:
        raise problems.not_acceptable([MEDIA_TYPES[ListFormat.JSON]])
    # Of a list as it was, tracks that have been deleted have no name.
    entries = [_entry(item) for item in found["recommendations"] if item["track_id"] is not None]
    return _WRITERS[wanted](_title(found), found, entries)


def _title(body: Mapping[str, Any]) -> str:
    reference = body["reference_metadata"] or {}
    about = reference.get("title") or body["reference_track"]
    return f"Like {about}" if about else "Recommendations"


def _entry(item: Mapping[str, Any]) -> _Entry:
    metadata = item["metadata"]
    extra = metadata.get("extra") or {}
    seconds = metadata.get("duration_seconds")
    where = next(
        (str(extra[key]) for key in LOCATION_KEYS if extra.get(key) and isinstance(extra[key], str)), None
    )
    return _Entry(
        track_id=item["track_id"],
        title=item["title"] or item["track_id"],
        creator=metadata.get("artist") or item["composer_full"] or item["composer"],
        album=metadata.get("album"),
        milliseconds=None if seconds is None else round(seconds * 1000),
        annotation=item["explanation"],
        location=None if where is None else _uri(where),
        recording=metadata.get("musicbrainz_recording_id"),
        metadata=metadata,
    )


def _uri(where: str) -> str:
    """A location as a URI: one that is an address already, or a path, encoded."""
    try:
        scheme = urlsplit(where).scheme
    except ValueError:
        scheme = ""
    # One letter is a drive.
    safe = "/:?#[]@!$&'()*+,;=%~" if len(scheme) > 1 else "/!$&'()*+,;=@~"
    return quote(where.replace("\\", "/") if len(scheme) <= 1 else where, safe=safe)


def _jspf(title: str, body: Mapping[str, Any], entries: list[_Entry]) -> bytes:
    return orjson.dumps(
        {
            "playlist": {
                "title": title,
                "creator": "MESS-AI",
                "date": body["generated_at"],
                "annotation": _annotation(body),
                "track": [_jspf_track(entry) for entry in entries],
            }
        }
    )


def _jspf_track(entry: _Entry) -> dict[str, Any]:
    members = {
        "title": entry.title,
        "creator": entry.creator,
        "album": entry.album,
        "duration": entry.milliseconds,
        "annotation": entry.annotation,
        "identifier": entry.identifiers,
        "location": [entry.location] if entry.location else None,
    }
    told = {name: value for name, value in members.items() if value is not None}
    metadata = entry.metadata
    extension: dict[str, Any] = {}
    if artists := metadata.get("musicbrainz_artist_ids"):
        extension["artist_identifiers"] = [f"{_MUSICBRAINZ}/artist/{each}" for each in artists]
    if release := metadata.get("musicbrainz_release_id"):
        extension["release_identifier"] = f"{_MUSICBRAINZ}/release/{release}"
    if isrc := metadata.get("isrc"):
        extension["additional_metadata"] = {"isrc": isrc}
    return told | ({"extension": {_TRACK_EXTENSION: extension}} if extension else {})


def _annotation(body: Mapping[str, Any]) -> str:
    mode = f"/{body['mode']}" if body.get("mode") else ""
    count = len(body["recommendations"])
    return f"{count} track{'' if count == 1 else 's'} by {body['strategy']}{mode}"


def _xspf(title: str, body: Mapping[str, Any], entries: list[_Entry]) -> bytes:
    root = ElementTree.Element("playlist", {"version": "1", "xmlns": _NAMESPACE})
    _add(root, title=title, creator="MESS-AI", annotation=_annotation(body), date=body["generated_at"])
    tracks = ElementTree.SubElement(root, "trackList")
    for entry in entries:
        track = ElementTree.SubElement(tracks, "track")
        _add(track, location=entry.location)
        for identifier in entry.identifiers:
            _add(track, identifier=identifier)
        _add(
            track,
            title=entry.title,
            creator=entry.creator,
            annotation=entry.annotation,
            album=entry.album,
            duration=None if entry.milliseconds is None else str(entry.milliseconds),
        )
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _add(parent: ElementTree.Element, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None:
            ElementTree.SubElement(parent, name).text = _NOT_XML.sub("\ufffd", text)


def _m3u8(title: str, body: Mapping[str, Any], entries: list[_Entry]) -> bytes:
    if entries and all(entry.location is None for entry in entries):
        raise problems.no_locations(LOCATION_KEYS)
    lines = ["#EXTM3U", f"#PLAYLIST:{_line(title)}", f"# {_line(_annotation(body))}"]
    for entry in entries:
        named = f"{entry.creator} - {entry.title}" if entry.creator else entry.title
        if entry.location is None:
            lines.append(f"# no location is known of {_line(named)}")
        else:
            seconds = -1 if entry.milliseconds is None else round(entry.milliseconds / 1000)
            lines += [f"#EXTINF:{seconds},{_line(named)}", entry.location]
    return "\n".join([*lines, ""]).encode()


def _line(text: str) -> str:
    return _LINE_ENDS.sub(" ", text)


_WRITERS: Final = {ListFormat.JSPF: _jspf, ListFormat.XSPF: _xspf, ListFormat.M3U8: _m3u8}

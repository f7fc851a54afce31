"""What a recording's file says of it: tags of any format, and its length."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streams.producers.extras import import_extra

# Tags by the names that mutagen has for all formats, and the fields that they are.
_FIELDS: Final = {
    "title": "title",
    "album": "album",
    "composer": "composer",
    "date": "recording_date",
    "isrc": "isrc",
    "musicbrainz_trackid": "musicbrainz_recording_id",
    "musicbrainz_albumid": "musicbrainz_release_id",
}
_LISTS: Final = {"genre": "tags", "musicbrainz_artistid": "musicbrainz_artist_ids"}
# The frames of ID3 in files for which mutagen has no names of its own: WAV and AIFF.
_FRAMES: Final = {
    "TIT2": "title",
    "TALB": "album",
    "TCOM": "composer",
    "TDRC": "date",
    "TSRC": "isrc",
    "TPE1": "artist",
    "TCON": "genre",
}


def tagged_facts(path: Path) -> dict[str, Any]:
    """Return metadata fields from a file's tags; nothing where there are none, or they cannot be read.

    Raises:
        SourceError: the extra `audio` is not installed.
    """
    mutagen: Any = import_extra("mutagen", "recordings", "audio")
    try:
        file = mutagen.File(path, easy=True)
    except (mutagen.MutagenError, OSError, ValueError):
        return {}
    if file is None:
        return {}
    tags = _plain(file.tags)
    facts: dict[str, Any] = {field: tags[name][0] for name, field in _FIELDS.items() if name in tags}
    facts |= {field: tags[name] for name, field in _LISTS.items() if name in tags}
    if artists := tags.get("artist"):
        facts["artist"] = ", ".join(artists)
        if len(artists) > 1:
            facts["artists"] = artists
    if (seconds := getattr(file.info, "length", 0)) and seconds > 0:
        facts["duration_seconds"] = round(float(seconds), 3)
    return facts


def _plain(tags: Any) -> Mapping[str, list[str]]:
    """Names in lower case, and texts."""
    found: dict[str, list[str]] = {}
    for name in tags.keys() if tags is not None else ():
        known = _FRAMES.get(name, str(name).lower())
        value = tags[name]
        texts = [str(each).strip() for each in (getattr(value, "text", value) or ())]
        if kept := [text for text in texts if text]:
            found[known] = kept
    return found

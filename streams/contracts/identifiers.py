"""Readers of identifiers from other catalogues: MusicBrainz ids (UUIDs, MBIDs) and ISRCs.

As in `cleaning`, a reader returns a clean value, or None for a missing one, and raises `ValueError` otherwise.
"""

import re
from typing import Final

from streams.contracts.cleaning import is_missing, literal_list, unique_names, wrong_kind_error

# Alone, or at the end of a URL.
_UUID: Final = re.compile(
    r"(?:https?://(?:[a-z]+\.)?musicbrainz\.org/[a-z-]+/)?"
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/?",
    re.IGNORECASE | re.ASCII,
)
# ISO 3901: country and registrant, year, designation.
_ISRC: Final = re.compile(r"[A-Z]{2}[A-Z0-9]{3}\d{7}", re.ASCII)
_BREAK: Final = re.compile(r"[,;\s\0]+|(?<=[0-9a-f]{12})/(?=[0-9a-f]{8}-)", re.IGNORECASE | re.ASCII)


def parse_uuid(value: object) -> str | None:
    """A UUID in lower case, from a UUID or the URL of a MusicBrainz page."""
    if is_missing(value):
        return None
    if isinstance(value, list | tuple) and len(value) == 1:
        return parse_uuid(value[0])
    found = _UUID.fullmatch(value.replace("\0", "").strip()) if isinstance(value, str) else None
    if found is None:
        raise wrong_kind_error("a UUID", value)
    return found[1].lower()


def parse_uuids(value: object) -> tuple[str, ...]:
    """UUIDs, from a list or from text with commas, semicolons, slashes or spaces between them."""
    if is_missing(value):
        return ()
    if isinstance(value, str):
        listed = literal_list(value)
        value = [part for part in _BREAK.split(value) if part] if listed is None else listed
    return tuple(filter(None, map(parse_uuid, unique_names(value, "a list of UUIDs"))))


def parse_isrc(value: object) -> str | None:
    """An ISRC in upper case without hyphens, from one with or without them."""
    if is_missing(value):
        return None
    if isinstance(value, list | tuple) and len(value) == 1:
        return parse_isrc(value[0])
    plain = re.sub(r"[-\s\0]", "", value).upper().removeprefix("ISRC") if isinstance(value, str) else ""
    if not _ISRC.fullmatch(plain):
        raise wrong_kind_error("an ISRC", value)
    return plain

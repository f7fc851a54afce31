"""Reads artists: a credit as text, and the names that it credits."""

import re
from typing import Any, Final

from streams.contracts.cleaning import is_missing, literal_list, unique_names

# Separators between artists. A comma and an ampersand are not: they occur within names ("Earth, Wind & Fire").
_JOINED: Final = re.compile(
    r"\s*[;|\0]\s*|\s+/\s+|\s*[(\[]?\s*\b(?:feat\.?|ft\.|featuring)\s+(?=\S)", re.IGNORECASE
)
_WANTED: Final = "a list of artists, or text with semicolons"


def credited_artists(value: object) -> tuple[str, ...]:
    """Names of the credited artists, from a list, a list written as text, or text with semicolons, ` / ` or `feat.`."""
    if is_missing(value):
        return ()
    if isinstance(value, str):
        listed = literal_list(value)
        value = _split(value) if listed is None else listed
    return unique_names(value, _WANTED)


def _split(credit: str) -> list[str]:
    first, *others = _JOINED.split(credit)
    return [first, *map(_closed_before, others)]


def _closed_before(name: str) -> str:
    """The name without a closing bracket whose opening one stood before it, as in "A (feat. B)"."""
    for opening, closing in ("()", "[]"):
        if name.count(closing) > name.count(opening):
            before, _, after = name.rpartition(closing)
            name = before + after
    return name


# A text without any of these names one artist. Most do, and skip the slower search.
_SIGNS: Final = re.compile(r"[;|\0/\[]|\bf(?:ea)?t", re.IGNORECASE)


def completed_artists(known: dict[str, Any]) -> None:
    """Derive `artists` from `artist` where only that is known, and the reverse.

    A value that cannot be read stays; the reader of its field refuses it.

    Args:
        known: metadata by field; changed.
    """
    artist, artists = known.get("artist"), known.get("artists")
    if artist is None and artists is None:
        return
    if artists is None and isinstance(artist, str) and not _SIGNS.search(artist):
        known["artists"] = (artist,)
        return
    listed = isinstance(artist, list | tuple) or (
        isinstance(artist, str) and literal_list(artist) is not None
    )
    try:
        if (artists is None or not credited_artists(artists)) and not is_missing(artist):
            known["artists"] = artists = (
                credited_artists(artist) if isinstance(artist, str | list | tuple) else [artist]
            )
        if artists is not None and (listed or is_missing(artist)) and (who := credited_artists(artists)):
            known["artist"] = ", ".join(who)
    except ValueError:
        known.setdefault("artists", None)

"""The meaning of the columns of well-known tables, which are recognised by their headers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from streams.contracts.cleaning import is_missing, literal_list
from streams.producers import maestro
from streams.producers.rawtables import GOES_ON

Row = Mapping[str, Any]
Facts = dict[str, Any]
_KEYS: Final = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Preset(NamedTuple):
    """A well-known table.

    Attributes:
        name: for people.
        columns: that it has, all of them.
        fields: column to metadata field; several columns of one list field are put together.
        ids: columns that name the track, in the order in which they are believed.
        paths: columns that name its file.
        left_out: columns that say nothing.
        more: adds to the facts what a renaming cannot.
    """

    name: str
    columns: frozenset[str]
    fields: Mapping[str, str]
    ids: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    more: Callable[[Row, Facts], None] | None = None


def _milliseconds(column: str) -> Callable[[Row, Facts], None]:
    def read(row: Row, facts: Facts) -> None:
        value = row.get(column)
        if not is_missing(value):
            facts["duration_seconds"] = f"{value} ms"

    return read


def _spotify(row: Row, facts: Facts) -> None:
    _milliseconds("duration_ms")(row, facts)
    try:
        key, mode = int(row["key"]), int(row["mode"])
    except (KeyError, ValueError, TypeError):
        return
    # -1: no key was found.
    if 0 <= key < len(_KEYS) and mode in (0, 1):
        facts["key_signature"] = f"{_KEYS[key]} {('minor', 'major')[mode]}"


def _jamendo(row: Row, facts: Facts) -> None:
    tags = [tag for tag in str(row.get("TAGS") or "").split(GOES_ON) if tag]
    by_category: dict[str, list[str]] = {}
    for tag in tags:
        category, _, name = tag.rpartition("---")
        by_category.setdefault(category, []).append(name)
    facts["tags"] = [name for names in by_category.values() for name in names]
    for category, names in by_category.items():
        if category:
            facts[f"tags_{category.replace('/', '_')}"] = names
    facts["dataset_source"] = "mtg-jamendo"


def _fma(row: Row, facts: Facts) -> None:
    del row
    facts["dataset_source"] = "fma"


def _musicbrainz(row: Row, facts: Facts) -> None:
    _milliseconds("length")(row, facts)
    credited = row.get("artist-credit")
    if isinstance(credited, list):
        named = [each for each in credited if isinstance(each, Mapping)]
        facts["artist"] = "".join(f"{each.get('name', '')}{each.get('joinphrase', '')}" for each in named)
        facts["artists"] = [each.get("name") for each in named]
        ids = [each["artist"].get("id") for each in named if isinstance(each.get("artist"), Mapping)]
        facts["musicbrainz_artist_ids"] = [mbid for mbid in ids if mbid]
    releases = row.get("releases")
    if isinstance(releases, list) and releases and isinstance(releases[0], Mapping):
        facts["album"], facts["musicbrainz_release_id"] = releases[0].get("title"), releases[0].get("id")


def _maestro(row: Row, facts: Facts) -> None:
    facts.update(maestro.read_row(row))


PRESETS: Final = (
    Preset(
        "MAESTRO",
        maestro.COLUMNS,
        {},
        paths=("audio_filename", "midi_filename"),
        left_out=maestro.COLUMNS | {"year", "duration"},
        more=_maestro,
    ),
    Preset(
        "FMA",
        frozenset({"track_id", "track.title", "artist.name"}),
        {
            "track.title": "title",
            "artist.name": "artist",
            "album.title": "album",
            "track.genre_top": "tags",
            "track.tags": "tags",
            "track.duration": "duration_seconds",
            "track.date_recorded": "recording_date",
            "track.composer": "composer",
            "set.split": "extra.split",
        },
        ids=("track_id",),
        more=_fma,
    ),
    Preset(
        "MTG-Jamendo",
        frozenset({"TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"}),
        {"DURATION": "duration_seconds", "ARTIST_ID": "extra.artist_id", "ALBUM_ID": "extra.album_id"},
        ids=("TRACK_ID",),
        paths=("PATH",),
        left_out=frozenset({"TAGS"}),
        more=_jamendo,
    ),
    Preset(
        "Spotify",
        frozenset({"track_id", "track_name", "artists", "duration_ms"}),
        {"track_name": "title", "artists": "artist", "album_name": "album", "track_genre": "tags"},
        ids=("track_id",),
        left_out=frozenset({"duration_ms", "key", "mode"}),
        more=_spotify,
    ),
    Preset(
        "Spotify",
        frozenset({"id", "name", "artists", "duration_ms"}),
        {"name": "title", "artists": "artist"},
        ids=("id",),
        left_out=frozenset({"duration_ms", "key", "mode"}),
        more=_spotify,
    ),
    Preset(
        "Million Song Dataset",
        frozenset({"track_id", "song_id", "artist_name", "artist_mbid"}),
        {
            "artist_name": "artist",
            "release": "album",
            "duration": "duration_seconds",
            "artist_mbid": "musicbrainz_artist_ids",
        },
        ids=("track_id",),
    ),
    Preset(
        "Last.fm",
        frozenset({"track_id", "artist", "title", "similars", "tags"}),
        {},
        ids=("track_id",),
    ),
    Preset(
        "beets",
        frozenset({"mb_trackid", "title", "artist"}),
        {
            "mb_trackid": "musicbrainz_recording_id",
            "mb_albumid": "musicbrainz_release_id",
            "mb_artistid": "musicbrainz_artist_ids",
            "mb_artistids": "musicbrainz_artist_ids",
            "length": "duration_seconds",
            "genre": "tags",
            "genres": "tags",
            "initial_key": "key_signature",
        },
        ids=("track_id",),
        paths=("path",),
        left_out=frozenset({"id", "album_id"}),
    ),
    Preset(
        "MusicBrainz",
        frozenset({"id", "title", "artist-credit"}),
        {"id": "musicbrainz_recording_id", "isrcs": "isrc", "genres": "tags", "tags": "tags"},
        ids=("id",),
        left_out=frozenset({"length", "artist-credit", "releases"}),
        more=_musicbrainz,
    ),
)


def preset_of(columns: Iterable[str]) -> Preset | None:
    """Return the table that has these columns, if it is a well-known one."""
    held = frozenset(columns)
    return next((preset for preset in PRESETS if preset.columns <= held), None)


def joined_values(values: list[Any]) -> Any:
    """Return the values of several columns of one list field as one list."""
    present = [value for value in values if not is_missing(value)]
    if len(present) < 2:
        return present[0] if present else None
    listed: list[Any] = []
    for value in present:
        read = literal_list(value) if isinstance(value, str) else value
        listed += read if isinstance(read, list | tuple) else [value]
    return listed

"""Playlists: by their schemas, whatever a catalogue says; and which format a request asks for."""

from typing import Any
from xml.etree import ElementTree

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.problems import ApiProblemError
from serving.recommend.playlists import MEDIA_TYPES, ListFormat, is_plain, render_playlist, wanted_format

pytestmark = pytest.mark.unit

URI = {"type": "string", "pattern": "^[A-Za-z0-9:/?#\\[\\]@!$&'()*+,;=._~%-]+$"}
TEXTS = {
    name: {"type": "string"} for name in ("title", "creator", "annotation", "date", "album", "info", "image")
}
# https://xspf.org/jspf: members of the playlist and of its tracks, and MusicBrainz's extension.
JSPF = {
    "type": "object",
    "required": ["playlist"],
    "additionalProperties": False,
    "properties": {
        "playlist": {
            "type": "object",
            "required": ["track"],
            "additionalProperties": False,
            "properties": {
                **TEXTS,
                "track": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            **TEXTS,
                            "location": {"type": "array", "items": URI},
                            "identifier": {"type": "array", "items": URI, "minItems": 1},
                            "duration": {"type": "integer", "minimum": 0},
                            "extension": {
                                "type": "object",
                                "required": ["https://musicbrainz.org/doc/jspf#track"],
                                "additionalProperties": {
                                    "type": "object",
                                    "properties": {
                                        "artist_identifiers": {"type": "array", "items": URI},
                                        "release_identifier": URI,
                                        "additional_metadata": {"type": "object"},
                                    },
                                    "additionalProperties": False,
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
NAMESPACE = "{http://xspf.org/ns/0/}"
RECORDING = "b1a9c0e9-d987-4042-ae91-78d6a3267d69"


def item(track_id: str, **metadata: Any) -> dict[str, Any]:
    """One recommendation as a body has it."""
    fields = {"title": None, "composer": None, "composer_full": None, "artist": None, "album": None}
    whole: dict[str, Any] = {**fields, "extra": {}, **metadata}
    return {
        "track_id": track_id,
        "explanation": "Cosine similarity 0.9",
        "metadata": whole,
        **{name: whole[name] for name in ("title", "composer", "composer_full")},
    }


def body(*items: dict[str, Any]) -> bytes:
    """A body of recommendations."""
    return orjson.dumps(
        {
            "reference_track": "a",
            "reference_metadata": {"title": "Aria"},
            "strategy": "diverse",
            "mode": "mmr",
            "generated_at": "2026-02-03T04:05:06Z",
            "recommendations": list(items),
        }
    )


FULL = item(
    "bach/1 é",
    title="Aria & <Da Capo>",
    artist="Glenn Gould",
    album="Goldberg",
    duration_seconds=191.5,
    musicbrainz_recording_id=RECORDING,
    musicbrainz_release_id="76df3287-6cda-33eb-8e9a-044b5e15ffdd",
    musicbrainz_artist_ids=["24f1766e-9635-4d58-a4d4-9413f9f98a4c"],
    isrc="USRC17607839",
    extra={"filename": "disc 1/aria #1.flac"},
)
BARE = item("bare")


def test_jspf_has_what_musicbrainz_reads() -> None:
    """Its id as the first identifier, ours behind it, artists and release in its extension; milliseconds; locations as URIs."""
    made = orjson.loads(render_playlist(body(FULL, BARE), ListFormat.JSPF))
    jsonschema_rs.validate(JSPF, made)
    assert made["playlist"]["title"] == "Like Aria"
    assert made["playlist"]["annotation"] == "2 tracks by diverse/mmr"
    full, bare = made["playlist"]["track"]
    assert full == {
        "title": "Aria & <Da Capo>",
        "creator": "Glenn Gould",
        "album": "Goldberg",
        "duration": 191500,
        "annotation": "Cosine similarity 0.9",
        "identifier": [
            f"https://musicbrainz.org/recording/{RECORDING}",
            "urn:mess-ai:track:bach%2F1%20%C3%A9",
        ],
        "location": ["disc%201/aria%20%231.flac"],
        "extension": {
            "https://musicbrainz.org/doc/jspf#track": {
                "artist_identifiers": ["https://musicbrainz.org/artist/24f1766e-9635-4d58-a4d4-9413f9f98a4c"],
                "release_identifier": "https://musicbrainz.org/release/76df3287-6cda-33eb-8e9a-044b5e15ffdd",
                "additional_metadata": {"isrc": "USRC17607839"},
            }
        },
    }
    assert bare == {
        "title": "bare",
        "annotation": "Cosine similarity 0.9",
        "identifier": ["urn:mess-ai:track:bare"],
    }


def test_xspf_has_the_same_as_xml() -> None:
    """In its namespace, with children that a track may have, each at most once but identifiers."""
    root = ElementTree.fromstring(render_playlist(body(FULL, BARE), ListFormat.XSPF))
    assert (root.tag, root.get("version")) == (f"{NAMESPACE}playlist", "1")
    assert [child.tag.removeprefix(NAMESPACE) for child in root] == [
        "title",
        "creator",
        "annotation",
        "date",
        "trackList",
    ]
    full, bare = root[-1]
    assert [(child.tag.removeprefix(NAMESPACE), child.text) for child in full] == [
        ("location", "disc%201/aria%20%231.flac"),
        ("identifier", f"https://musicbrainz.org/recording/{RECORDING}"),
        ("identifier", "urn:mess-ai:track:bach%2F1%20%C3%A9"),
        ("title", "Aria & <Da Capo>"),
        ("creator", "Glenn Gould"),
        ("annotation", "Cosine similarity 0.9"),
        ("album", "Goldberg"),
        ("duration", "191500"),
    ]
    assert [child.tag.removeprefix(NAMESPACE) for child in bare] == ["identifier", "title", "annotation"]


def test_m3u8_lists_what_can_be_located_and_says_what_cannot() -> None:
    """An address stays one; of a list without any location there is no playlist."""
    far = item("far", title="Far\naway", extra={"preview_url": "https://media.test/a b.mp3?x=1&y=%20"})
    assert render_playlist(body(FULL, BARE, far), ListFormat.M3U8).decode().splitlines() == [
        "#EXTM3U",
        "#PLAYLIST:Like Aria",
        "# 3 tracks by diverse/mmr",
        "#EXTINF:192,Glenn Gould - Aria & <Da Capo>",
        "disc%201/aria%20%231.flac",
        "# no location is known of bare",
        "#EXTINF:-1,Far away",
        "https://media.test/a%20b.mp3?x=1&y=%20",
    ]
    with pytest.raises(ApiProblemError) as refused:
        render_playlist(body(BARE), ListFormat.M3U8)
    assert refused.value.status_code == 422
    assert render_playlist(body(), ListFormat.M3U8).startswith(b"#EXTM3U\n")


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=40))
def test_whatever_a_catalogue_says_the_playlists_are_whole(title: str, artist: str, where: str) -> None:
    """Markup, control characters, ends of lines, broken addresses: the schemas hold, and a line stays a line."""
    text = [each.encode(errors="replace").decode() for each in (title, artist, where)]
    made = body(item("a\u2028b", title=text[0], artist=text[1], extra={"url": text[2]}), FULL)
    jsonschema_rs.validate(JSPF, orjson.loads(render_playlist(made, ListFormat.JSPF)))
    assert len(ElementTree.fromstring(render_playlist(made, ListFormat.XSPF))[-1]) == 2
    lines = render_playlist(made, ListFormat.M3U8).decode().splitlines()
    assert lines[-2:] == ["#EXTINF:192,Glenn Gould - Aria & <Da Capo>", "disc%201/aria%20%231.flac"]
    assert len(lines) == (7 if text[2] else 6)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("application/xspf+xml", "xspf"),
        ("Application/JSPF+JSON", "jspf"),
        ("application/xspf+xml, */*;q=0.1", "xspf"),
        ("*/*, application/xspf+xml", "xspf"),
        ("application/json;q=0.5, audio/x-mpegurl", "m3u8"),
        ("application/*;q=0.3, application/jspf+json;q=0.2", "json"),
        ("application/json;q=0, application/*", "jspf"),
        ("audio/*", "m3u8"),
        ("application/problem+json", "json"),
    ],
)
def test_the_format_is_what_is_accepted_best(accept: str, wanted: str) -> None:
    """By quality, then by how precisely it was named, then JSON first."""
    assert wanted_format(accept) == wanted
    if is_plain(accept.encode()):
        assert wanted == "json"


def test_the_parameter_counts_more_than_the_header() -> None:
    """Also where the header would be refused; that names what there is."""
    assert wanted_format("image/png", b"top_k=3&format=xspf") == "xspf"
    for accept in ("image/png", "application/json;q=0", "*/*;q=0", "nonsense", "application/json;q=x"):
        with pytest.raises(ApiProblemError) as refused:
            wanted_format(accept)
        assert refused.value.status_code == 406
        assert refused.value.members["available"] == list(MEDIA_TYPES.values())


def test_only_what_needs_no_thought_is_plain() -> None:
    """What clients and browsers' scripts send; everything else is looked at."""
    assert all(is_plain(each) for each in (b"*/*", b"application/json", b"application/json, text/plain, */*"))
    assert not any(
        is_plain(each)
        for each in (b"", b"text/html", b"*/*;q=0", b"application/xspf+xml, */*", b"audio/x-mpegurl")
    )


def test_an_answer_that_is_no_list_is_no_playlist() -> None:
    """Why a track is not listed cannot be played."""
    with pytest.raises(ApiProblemError) as refused:
        render_playlist(b'{"placement": {}}', ListFormat.XSPF)
    assert refused.value.status_code == 406

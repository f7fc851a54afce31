"""Well-known tables: how they are recognised, and what their columns mean."""

from typing import Any

import pytest

from streams.contracts import TrackMetadata
from streams.producers.presets import PRESETS, joined_values, preset_of
from streams.producers.rawtables import GOES_ON

pytestmark = pytest.mark.unit


def facts_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a table adds to a row's facts beyond renaming."""
    (preset, *_) = [each for each in PRESETS if each.name == name]
    facts: dict[str, Any] = {}
    if preset.more is not None:
        preset.more(row, facts)
    return facts


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_table_is_known_by_its_columns_and_no_other_takes_it(preset: Any) -> None:
    """With further columns, too, and not with one missing."""
    assert preset_of([*preset.columns, "another"]) is preset
    for column in preset.columns:
        found = preset_of(preset.columns - {column})
        assert found is not preset


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_fields_are_those_of_the_contract(preset: Any) -> None:
    """Or keys of extra: a renaming to anything else would lose the column."""
    known = set(TrackMetadata.model_fields)
    assert {field for field in preset.fields.values() if not field.startswith("extra.")} <= known


@pytest.mark.parametrize(
    ("key", "mode", "signature"),
    [
        (0, 1, "C major"),
        ("9", "0", "A minor"),
        (11.0, 1.0, "B major"),
        (-1, 1, None),
        (-1, 0, None),
        (12, 1, None),
        (3, -1, None),
        (None, 1, None),
        (float("nan"), 0, None),
        ("", "", None),
    ],
)
def test_spotifys_keys_are_numbers(key: object, mode: object, signature: str | None) -> None:
    """-1 says that none was found: no key is better than a wrong one."""
    assert facts_of("Spotify", {"key": key, "mode": mode}).get("key_signature") == signature


def test_spotifys_durations_are_milliseconds() -> None:
    """They stay with their unit until the contract reads them; a missing one is none."""
    facts = facts_of("Spotify", {"duration_ms": 230_666})
    assert TrackMetadata.model_validate(facts).duration_seconds == pytest.approx(230.666)
    assert facts_of("Spotify", {"duration_ms": "nan"}) == {}


def test_jamendos_tags_have_categories() -> None:
    """All are tags; those of a category are kept by it as well."""
    facts = facts_of(
        "MTG-Jamendo",
        {"TAGS": GOES_ON.join(["genre---rock", "mood/theme---calm", "genre---pop", "live"])},
    )
    assert facts == {
        "tags": ["rock", "pop", "calm", "live"],
        "tags_genre": ["rock", "pop"],
        "tags_mood_theme": ["calm"],
        "dataset_source": "mtg-jamendo",
    }
    assert facts_of("MTG-Jamendo", {"TAGS": None})["tags"] == []


def test_musicbrainz_credits_are_joined_as_they_are_printed() -> None:
    """Each artist by itself, too, with the ids that are known; what is no credit is left alone."""
    row = {
        "length": 61_000,
        "artist-credit": [
            {"name": "Anna", "joinphrase": " & ", "artist": {"id": "mb-1"}},
            {"name": "Bert", "artist": {}},
            "odd",
        ],
        "releases": [{"title": "First", "id": "mb-r"}, {"title": "Second"}],
    }
    assert facts_of("MusicBrainz", row) == {
        "duration_seconds": "61000 ms",
        "artist": "Anna & Bert",
        "artists": ["Anna", "Bert"],
        "musicbrainz_artist_ids": ["mb-1"],
        "album": "First",
        "musicbrainz_release_id": "mb-r",
    }
    assert facts_of("MusicBrainz", {"artist-credit": "Anna", "releases": []}) == {}


@pytest.mark.parametrize(
    ("cells", "joined"),
    [
        ([], None),
        (["nan", None], None),
        (["Jazz", ""], "Jazz"),
        ([["a"], None], ["a"]),
        (["Jazz", "['quiet', 'piano, solo']"], ["Jazz", "quiet", "piano, solo"]),
        (["a, b", "c"], ["a, b", "c"]),
        ([["a", "b"], ("c",), "d"], ["a", "b", "c", "d"]),
    ],
)
def test_columns_of_one_field_become_one_list(cells: list[Any], joined: object) -> None:
    """A cell that holds a list, as a value or written out, adds its items; a single cell stays as it is."""
    assert joined_values(cells) == joined

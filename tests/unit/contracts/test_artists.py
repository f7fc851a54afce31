"""Credits and the artists in them."""

from typing import Any

import pytest

from streams.contracts.artists import completed_artists, credited_artists

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("credit", "artists"),
    [
        ("Earth, Wind & Fire", ("Earth, Wind & Fire",)),
        ("AC/DC", ("AC/DC",)),
        ("AC/DC / Motörhead", ("AC/DC", "Motörhead")),
        ("Anna; Bert|Carla\0Dora", ("Anna", "Bert", "Carla", "Dora")),
        ("Anna feat. Bert", ("Anna", "Bert")),
        ("Anna (feat. Bert)", ("Anna", "Bert")),
        ("Anna [feat. Bert]", ("Anna", "Bert")),
        ("Anna [ft. Bert (of Carla)]", ("Anna", "Bert (of Carla)")),
        ("Anna (feat. Bert (of Carla))", ("Anna", "Bert (of Carla)")),
        ("Anna (feat. Bert) [live]", ("Anna", "Bert [live]")),
        ("Anna (feat. Bert; Carla)", ("Anna", "Bert", "Carla")),
        ("Anna Featuring Bert ft Carla", ("Anna", "Bert ft Carla")),
        ("Little Feat", ("Little Feat",)),
        ("Daft Punk", ("Daft Punk",)),
        ("['Anna', 'Bert, the second']", ("Anna", "Bert, the second")),
        (["Anna", "anna", None, "Bert"], ("Anna", "Bert")),
        ("n/a", ()),
    ],
)
def test_a_credit_is_split_where_it_joins_artists_and_nowhere_else(
    credit: object, artists: tuple[str, ...]
) -> None:
    """Semicolons, ` / ` and `feat.` join artists; commas, ampersands and bare slashes stand in names."""
    assert credited_artists(credit) == artists


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({"artist": "Anna"}, {"artist": "Anna", "artists": ("Anna",)}),
        ({"artist": "Anna feat. Bert"}, {"artist": "Anna feat. Bert", "artists": ("Anna", "Bert")}),
        ({"artists": ["Anna", "Bert"]}, {"artist": "Anna, Bert", "artists": ["Anna", "Bert"]}),
        ({"artist": "A & B", "artists": ["A", "B"]}, {"artist": "A & B", "artists": ["A", "B"]}),
        ({"artist": ["Anna", "Bert"]}, {"artist": "Anna, Bert", "artists": ("Anna", "Bert")}),
        ({"artist": "['Anna', 'Bert']"}, {"artist": "Anna, Bert", "artists": ("Anna", "Bert")}),
        ({"artist": "Anna", "artists": "n/a"}, {"artist": "Anna", "artists": ("Anna",)}),
        ({"artist": 50}, {"artist": 50, "artists": [50]}),
        ({"artist": {"name": "Anna"}, "artists": {}}, {"artist": {"name": "Anna"}, "artists": {}}),
        ({"title": "Air"}, {"title": "Air"}),
    ],
)
def test_one_field_is_derived_from_the_other(told: dict[str, Any], known: dict[str, Any]) -> None:
    """What both fields say stays; what cannot be read stays for the reader of its field to refuse."""
    completed_artists(told)
    assert told == known

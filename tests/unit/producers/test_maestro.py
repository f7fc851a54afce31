"""Rows of MAESTRO's table, and the composers that it names."""

import pytest

from streams.contracts import TrackMetadata
from streams.producers.composers import by_full_name, by_surname
from streams.producers.maestro import read_row, version_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("title", "opus"),
    [
        ("Sonata in B-flat Major, D. 960", "D. 960"),
        ("Prelude and Fugue in C Major, WTC I, BWV 846", "BWV 846"),
        ("Etude in G-sharp Minor, Op. 25 No. 6", "Op. 25 No. 6"),
        ("Études-Tableaux, Op.39, No. 5", "Op.39, No. 5"),
        ("Sonata in E Major, Hob. XVI:31", None),
        ("Sonata No. 8", None),
        ("Kinderszenen", None),
    ],
)
def test_a_works_number_is_read_out_of_its_title(title: str, opus: str | None) -> None:
    """In the catalogues that name composers' works; a number of another kind is none."""
    assert read_row({"canonical_title": title, "canonical_composer": "Anna"}).get("opus") == opus


def test_a_row_is_of_a_performance() -> None:
    """Its year is the recording's; of a transcription's two composers the first counts."""
    facts = read_row(
        {
            "canonical_composer": "Franz Schubert / Franz Liszt",
            "canonical_title": " Erlkönig ",
            "year": "2008",
            "duration": "243.5",
        }
    )
    assert facts == {
        "title": "Erlkönig",
        "composer": "Schubert",
        "composer_full": "Franz Schubert / Franz Liszt",
        "era": "Romantic",
        "recording_date": "2008",
        "duration_seconds": "243.5",
        "instrument": "piano",
        "dataset_source": "maestro",
    }
    read = TrackMetadata.model_validate(facts)
    assert (read.recording_date, read.duration_seconds) == ("2008", 243.5)


def test_what_a_row_does_not_say_is_left_out() -> None:
    """No composer has no name, and no era is guessed."""
    facts = read_row({"canonical_composer": None, "canonical_title": None})
    assert TrackMetadata.model_validate(facts).present() == {
        "instrument": "piano",
        "dataset_source": "maestro",
    }


@pytest.mark.parametrize(
    ("name", "version"), [("maestro-v3.0.0.csv", "3.0.0"), ("MAESTRO-v2.json", "2"), ("maestro.csv", None)]
)
def test_the_tables_version_is_in_its_name(name: str, version: str | None) -> None:
    """As it is downloaded."""
    assert version_of(name) == version


def test_families_share_their_names() -> None:
    """A full name is one composer; a surname is one only where a data set means the famous one."""
    assert by_full_name("carl philipp emanuel bach") is None
    assert by_full_name("Bach") is None
    assert by_full_name("JOHANN SEBASTIAN BACH") == by_surname("bach")
    assert by_surname("Skryabin") == by_surname("Scriabin")
    assert by_surname("Anonymous") is None

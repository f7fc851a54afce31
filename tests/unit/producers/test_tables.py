"""Metadata tables, Saarland names and MAESTRO's CSV."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.contracts import TrackMetadata
from streams.producers.items import SourceError
from streams.producers.report import SourceReport
from streams.producers.saarland import parse_name
from streams.producers.tables import MetadataTable

pytestmark = pytest.mark.unit


def row_of(table: MetadataTable, name: str) -> dict[str, Any]:
    """The facts of a track's row."""
    row = table.find(name)
    assert isinstance(row, int)
    return table.facts(row)


MAESTRO = """canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration
Franz Schubert / Franz Liszt,"Ständchen, S. 560",train,2018,2018/MIDI-A_wav--1.midi,2018/MIDI-A_wav--1.wav,698.661160312
Alban Berg,Sonata Op. 1,test,2008,2008/B.midi,2008/B.wav,
"""


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        (
            "Bach_BWV849-01_001_20090916-SMD",
            {
                "composer": "Bach",
                "composer_full": "Johann Sebastian Bach",
                "era": "Baroque",
                "opus": "BWV 849",
            }
            | {
                "movement": "1",
                "performer_id": "001",
                "recording_date": "2009-09-16",
                "dataset_source": "smd",
            },
        ),
        (
            "Beethoven_Op027No1-01_003_20090916-SMD",
            {
                "composer_full": "Ludwig van Beethoven",
                "opus": "Op. 27 No. 1",
                "movement": "1",
                "era": "Classical",
            },
        ),
        (
            "Chopin_Op010-03_007_20100611-SMD",
            {
                "composer_full": "Frédéric Chopin",
                "opus": "Op. 10",
                "movement": "3",
                "recording_date": "2010-06-11",
            },
        ),
        ("Beethoven_WoO080_001_20081107-SMD", {"opus": "WoO 80", "title": "WoO 80"}),
        ("Haydn_HobXVINo52-02_008_20110315-SMD", {"opus": "Hob. XVI No. 52", "movement": "2"}),
        ("Haydn_Hob017No4_003_20090916-SMD", {"opus": "Hob. 17 No. 4"}),
        ("Mozart_KV265_006_20110315-SMD", {"opus": "KV 265"}),
        ("Bartok_SZ080-02_002_20110315", {"opus": "Sz. 80", "composer_full": "Béla Bartók"}),
        (
            "Liszt_AnnesDePelerinage-LectureDante_002_20090916-SMD",
            {"title": "Annes De Pelerinage: Lecture Dante", "movement_name": "Lecture Dante"},
        ),
        ("Ravel_JeuxDEau_008_20110315-SMD", {"title": "Jeux D Eau", "composer": "Ravel"}),
        ("Nobody_Op001_001_20110315-SMD", {"composer": "Nobody", "opus": "Op. 1"}),
    ],
)
def test_saarland_names_are_read(stem: str, expected: dict[str, str]) -> None:
    """Composer, work, movement, performer and date come from the file name."""
    found = parse_name(stem)
    assert found is not None
    assert {key: found[key] for key in expected} == expected
    TrackMetadata.model_validate(found)
    if "opus" not in expected:
        assert "opus" not in found


@pytest.mark.parametrize(
    "stem", ["song", "Bach_BWV849-01_001_20091316-SMD", "a_b_c_d", "Bach_BWV849-01_1_2009-SMD"]
)
def test_other_names_are_not_taken_for_saarland_ones(stem: str) -> None:
    """A name that does not fit, or whose date is none, says nothing."""
    assert parse_name(stem) is None


def test_maestro_rows_become_track_metadata(tmp_path: Path) -> None:
    """Composer, title, duration, year of performance and version; found by audio or MIDI name."""
    path = tmp_path / "maestro-v3.0.0.csv"
    path.write_text(MAESTRO, encoding="utf-8")
    table = MetadataTable.read(path)
    metadata = TrackMetadata.model_validate(row_of(table, "MIDI-A_wav--1"))
    assert (metadata.composer, metadata.composer_full) == ("Schubert", "Franz Schubert / Franz Liszt")
    assert (metadata.era, metadata.title, metadata.opus) == ("Romantic", "Ständchen, S. 560", "S. 560")
    assert (metadata.recording_date, metadata.year_composed) == ("2018", None)
    assert metadata.duration_seconds == pytest.approx(698.661160312)
    assert (metadata.dataset_source, metadata.dataset_version) == ("maestro", "3.0.0")
    assert metadata.extra["split"] == "train"
    berg = TrackMetadata.model_validate(row_of(table, "maestro_B"))
    assert (berg.composer, berg.opus, berg.duration_seconds) == ("Berg", "Op. 1", None)


def test_a_well_known_table_may_name_its_files_in_a_way_of_its_own(tmp_path: Path) -> None:
    """MAESTRO's columns beside `filename` instead of its own two: the row is found by that."""
    path = tmp_path / "mine.csv"
    path.write_text(
        "filename;canonical_title;canonical_composer\nA/01.wav;Sonata;Alban Berg\n", encoding="utf-8"
    )
    metadata = TrackMetadata.model_validate(row_of(MetadataTable.read(path), "A/01"))
    assert (metadata.title, metadata.composer) == ("Sonata", "Berg")


def test_maestros_json_by_columns_is_the_same_table(tmp_path: Path) -> None:
    """MAESTRO's JSON is a data frame by columns."""
    path = tmp_path / "maestro-v3.0.0.json"
    columns = {
        "canonical_composer": {"0": "Alban Berg"},
        "canonical_title": {"0": "Sonata Op. 1"},
        "audio_filename": {"0": "2008/B.wav"},
        "duration": {"0": 12.5},
    }
    path.write_text(json.dumps(columns))
    row = row_of(MetadataTable.read(path), "B")
    assert (row["composer"], row["duration_seconds"]) == ("Berg", 12.5)


@pytest.mark.parametrize(
    "content",
    [
        [{"track_id": "a", "title": "A"}],
        {"a": {"title": "A"}},
        {"tracks": [{"track_id": "a", "title": "A"}], "version": 1},
    ],
)
def test_json_tables_come_in_several_shapes(tmp_path: Path, content: Any) -> None:
    """Lists, objects by track id, and a list under `tracks` are read alike."""
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content))
    row = row_of(MetadataTable.read(path), "a")
    assert row["title"] == "A"


@pytest.mark.parametrize(("delimiter", "bom"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_csv_columns_are_known_in_any_spelling(tmp_path: Path, delimiter: str, bom: str) -> None:
    """Headers may have capitals and spaces; delimiters and a byte order mark are found out."""
    path = tmp_path / "t.csv"
    rows = [["Track ID", "Year Composed", "Mood"], ["a", "1722.0", "calm"], ["b", "", ""]]
    path.write_text(bom + "\r\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    table = MetadataTable.read(path)
    assert row_of(table, "a") == {"track_id": "a", "year_composed": "1722.0", "Mood": "calm"}
    assert row_of(table, "b") == {"track_id": "b"}


def test_rows_are_found_by_id_or_file_name_with_and_without_suffixes() -> None:
    """The seed catalogue's ids lack the `-SMD` of the files."""
    table = MetadataTable.of(
        [{"track_id": "Bach_1", "filename": "audio/Bach_1-SMD.wav"}, {"filename": r"c:\m\z.mp3"}]
    )
    assert table.find("Bach_1") == table.find("Bach_1-SMD") == 0
    assert table.find("z") == 1
    assert table.find("y") is None


def test_the_first_of_several_rows_of_a_track_counts() -> None:
    """Duplicates are listed, not silently merged."""
    table = MetadataTable.of([{"track_id": "a", "title": "1"}, {"track_id": "a", "title": "2"}])
    assert row_of(table, "a") == {"track_id": "a", "title": "1"}
    report = SourceReport()
    table.describe(report)
    assert report.duplicates.first == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"title,era\nx,y\n", "no column that names a track"),
        ("t.csv", b"track_id,title\na,b,c\n", "more columns"),
        ("t.csv", b"track_id\n\x81\n", "cannot be read as text"),
        ("t.csv", b"", "has no rows"),
        ("t.jsonl", b"\n", "has no rows"),
        ("t.csv", b'track_id,title\na,"b', "cannot be read as a table"),
        ("t.json", b"{bad", "cannot be read as a table"),
        ("t.json", b"3", "neither a list"),
        ("t.json", b'[{"track_id": "a"}, 3]', "entry 2"),
    ],
)
def test_tables_that_cannot_be_read_are_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """What is wrong with a table is said in a line that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        MetadataTable.read(tmp_path / name)
    with pytest.raises(SourceError, match="cannot be read"):
        MetadataTable.read(tmp_path / "missing.csv")

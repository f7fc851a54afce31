"""Tables as they stand in their files."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest

from streams.producers.items import SourceError
from streams.producers.rawtables import GOES_ON, RawTable, read_table

pytestmark = pytest.mark.unit


def table(folder: Path, name: str, content: bytes | str, **options: Any) -> RawTable:
    """The table of a file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


def refusal(folder: Path, name: str, content: bytes | str, **options: Any) -> str:
    """What is said of a file that holds no table."""
    with pytest.raises(SourceError) as error:
        table(folder, name, content, **options)
    assert str(folder / name) in str(error.value)
    return str(error.value)


def test_cells_of_csv_stay_as_they_were_written(tmp_path: Path) -> None:
    """A leading zero, an empty cell and a line break in quotes are what they were; a short row lacks its last cells."""
    read = table(tmp_path, "a.csv", 'id,title,note\n007,"Air, on\na string",\n\n008,Jig\n')
    assert read.columns == ["id", "title", "note"]
    assert read.rows == [
        {"id": "007", "title": "Air, on\na string", "note": ""},
        {"id": "008", "title": "Jig", "note": None},
    ]
    assert read.notes == []


@pytest.mark.parametrize(
    "content",
    [
        "id;title\n1;Air, plain\n",
        "id\ttitle\n1\tAir, plain\n",
        "id|title\n1|Air, plain\n",
        "sep=;\nid;title\n1;Air, plain\n",
        '"sep=;"\nid;title\n1;Air, plain\n',
        "sep=\t\nid\ttitle\n1\tAir, plain\n",
    ],
)
def test_the_delimiter_is_the_headers(tmp_path: Path, content: str) -> None:
    """Whatever else stands in the cells, and whether a spreadsheet said it in a line of its own or not."""
    assert table(tmp_path, "a.csv", content).rows == [{"id": "1", "title": "Air, plain"}]


def test_a_single_column_needs_no_delimiter(tmp_path: Path) -> None:
    """Text with commas in only some of its rows is not cut at them."""
    assert table(tmp_path, "a.txt", 'id\none\n"two, three"\n').rows == [{"id": "one"}, {"id": "two, three"}]


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        ("id,who\n1,Dvořák\n".encode("utf-8-sig"), []),
        ("id,who\n1,Dvořák\n".encode("utf-16"), ["a.csv: read as UTF-16"]),
    ],
)
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, raw: bytes, note: list[str]) -> None:
    """It is no part of the first column's name."""
    read = table(tmp_path, "a.csv", raw)
    assert (read.columns, read.rows, read.notes) == (["id", "who"], [{"id": "1", "who": "Dvořák"}], note)


def test_what_is_not_utf8_is_read_as_windows_writes_it_and_said(tmp_path: Path) -> None:
    """The note says at which byte, and the option that would say otherwise decides."""
    raw = "id,who\n1,Fauré\n".encode("cp1252")
    read = table(tmp_path, "a.csv", raw)
    assert read.rows == [{"id": "1", "who": "Fauré"}]
    assert read.notes == [
        "a.csv: not UTF-8 at byte 13, read as Windows-1252 (--table-encoding says otherwise)"
    ]
    told = table(tmp_path, "a.csv", raw, encoding="cp1250")
    assert (told.rows, told.notes) == ([{"id": "1", "who": "Fauré"}], [])
    assert "cannot be read as text" in refusal(tmp_path, "a.csv", raw, encoding="ascii")
    assert "cannot be read as text: unknown encoding" in refusal(tmp_path, "a.csv", raw, encoding="klingon")


def test_columns_of_two_levels_are_joined(tmp_path: Path) -> None:
    """As pandas writes them, the index's name on a third line."""
    content = ",album,track,track\n,title,title,\ntrack_id,,,\n2,First,Opening,x\n"
    read = table(tmp_path, "a.csv", content)
    assert read.columns == ["track_id", "album.title", "track.title", "track"]
    assert read.rows == [{"track_id": "2", "album.title": "First", "track.title": "Opening", "track": "x"}]


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """No cell is lost, and a column without a name has one."""
    read = table(tmp_path, "a.csv", "id,tag,tag,,tag\n1,a,b,c,d\n")
    assert read.rows == [{"id": "1", "tag": "a", "tag_2": "b", "unnamed_3": "c", "tag_3": "d"}]


def test_a_last_column_of_tags_may_go_on(tmp_path: Path) -> None:
    """MTG-Jamendo's rows have a cell a tag; empty cells beyond the header are nothing."""
    read = table(tmp_path, "a.tsv", "id\ttags\n1\trock\tcalm\n2\tjazz\t\t\n")
    assert [row["tags"] for row in read.rows] == [f"rock{GOES_ON}calm", "jazz"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "id,title\n1,Air,extra\n",
            "the row that begins with '1' has 3 columns, more columns than the header's 2",
        ),
        ('id,title\n1,"never closed\n2,Jig\n', "unexpected end of data"),
    ],
)
def test_rows_that_do_not_fit_are_one_error(tmp_path: Path, content: str, said: str) -> None:
    """Rather than columns that have moved, or a quote that swallows the rest."""
    assert said in refusal(tmp_path, "a.csv", content)


def test_an_empty_file_is_an_empty_table(tmp_path: Path) -> None:
    """Without a column there is no row."""
    read = table(tmp_path, "a.csv", "\n\n")
    assert (read.columns, read.rows) == ([], [])


KNOWN = frozenset({"title", "composer"})
ROWS = [{"track_id": "a", "title": "Air"}, {"track_id": "b", "title": "Jig"}]


@pytest.mark.parametrize(
    "shape",
    [
        ROWS,
        {"tracks": ROWS},
        {"tracks": {"a": {"title": "Air"}, "b": {"title": "Jig"}}},
        {"a": {"title": "Air"}, "b": {"title": "Jig"}},
        {"columns": ["track_id", "title"], "index": [0, 1], "data": [["a", "Air"], ["b", "Jig"]]},
        {"schema": {"fields": []}, "data": ROWS},
        {"track_id": ["a", "b"], "title": ["Air", "Jig"]},
        {"track_id": {"0": "a", "1": "b"}, "Title": {"0": "Air", "1": "Jig"}},
    ],
)
def test_json_tables_of_any_shape_are_the_same_rows(tmp_path: Path, shape: Any) -> None:
    """By rows, by columns, or by tracks: known names of columns tell an object's keys apart."""
    read = table(tmp_path, "a.json", orjson.dumps(shape), known=KNOWN)
    assert [{name.casefold(): cell for name, cell in row.items()} for row in read.rows] == ROWS


def test_an_object_of_known_columns_is_one_track(tmp_path: Path) -> None:
    """As the file of facts beside a recording."""
    assert table(tmp_path, "a.json", '{"Title": "Air", "bpm": 90}', known=KNOWN).rows == [
        {"Title": "Air", "bpm": 90}
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "7", "neither a list nor an object of tracks"),
        ("a.json", '{"a": 1}', "no column that is known"),
        ("a.json", '[{"a": 1}, 2]', "entry 2 is not an object"),
        ("a.json", '{"a": ', "cannot be read as a table"),
        ("a.jsonl", '{"a": 1}\n\n[]\n', "entry 2 is not an object"),
        ("a.parquet", "no parquet", "cannot be read as a table"),
        ("a.arrow", "no arrow", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_is_one_error(tmp_path: Path, name: str, content: str, said: str) -> None:
    """It names the file."""
    assert said in refusal(tmp_path, name, content, known=KNOWN)


def test_lines_of_json_may_have_different_keys(tmp_path: Path) -> None:
    """Columns are those of all rows, in the order in which they come."""
    read = table(tmp_path, "a.jsonl", '{"b": 1}\n\n{"a": 2, "b": 3}\n')
    assert (read.columns, read.rows) == (["b", "a"], [{"b": 1}, {"a": 2, "b": 3}])


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    """A number stays one, and a list a list."""
    path = tmp_path / "a.PQ"
    pyarrow.parquet.write_table(pa.table({"id": [1], "tags": [["x", "y"]]}), path)
    read = read_table(path)
    assert (read.columns, read.rows) == (["id", "tags"], [{"id": 1, "tags": ["x", "y"]}])

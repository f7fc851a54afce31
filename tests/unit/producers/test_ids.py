"""Ids of an array's rows: the forms of their files, and where these are looked for."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from streams.producers.compressed import kind_of, read_bytes
from streams.producers.ids import read_ids, sidecar_of
from streams.producers.items import SourceError

pytestmark = pytest.mark.unit


def written(folder: Path, name: str) -> Path:
    """A file of the ids a and b, or 1 and 2, in the form that its name says."""
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, np.array([1, 2]))
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(b"a\nb\n"))
    elif name.endswith(".json"):
        path.write_text(json.dumps(["a", "b"]))
    elif name.endswith(".csv"):
        path.write_text("track_id,title\na,One\nb,Two\n")
    else:
        path.write_bytes(b"\xef\xbb\xbfa\r\n\n b \n")
    return path


@pytest.mark.parametrize("name", ["x.txt", "ids", "x.txt.gz", "x.json", "x.csv", "x.npy"])
def test_ids_are_read_from_every_form(tmp_path: Path, name: str) -> None:
    """Text with an id a line, JSON, a table, or an array; a table brings each row's facts, too."""
    ids, facts, table = read_ids(written(tmp_path, name))
    assert list(ids) == (["1", "2"] if name.endswith(".npy") else ["a", "b"])
    assert (facts is None, table is None) == (not name.endswith(".csv"),) * 2
    if facts is not None:
        assert [fact["title"] for fact in facts] == ["One", "Two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.txt", b"\xff\xfe\xfa", "not UTF-8 at byte 0"),
        ("x.json", b"[1,", "is not JSON"),
        ("x.csv", b"track_id,title\na,One\n,Two\n", "row 2 names no track"),
        ("x.txt.gz", b"no gzip", "cannot be read"),
    ],
)
def test_what_holds_no_ids_is_said(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """One line, with the file and the place."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        read_ids(path)


def test_the_ids_beside_an_array_are_found_by_its_name(tmp_path: Path) -> None:
    """One file is taken, none is none, and of several none is guessed."""
    array = tmp_path / "vectors.npy"
    np.save(array, np.eye(2))
    assert sidecar_of(array) is None
    beside = written(tmp_path, "vectors.ids.txt")
    assert sidecar_of(array) == beside
    written(tmp_path, "vectors_ids.json")
    with pytest.raises(SourceError, match="say which with --ids"):
        sidecar_of(array)


def test_a_files_kind_is_told_without_its_compression(tmp_path: Path) -> None:
    """`A.CSV.GZ` is a CSV file, and is read decompressed."""
    assert [kind_of(Path(name)) for name in ("A.CSV.GZ", "b.zst", "c", "d.tar.json")] == [
        ".csv",
        "",
        "",
        ".json",
    ]
    assert read_bytes(written(tmp_path, "x.txt.gz")) == b"a\nb\n"

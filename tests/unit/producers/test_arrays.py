"""Arrays in files, and the rows that they are read as."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from streams.producers.arrays import ArrayFile, UnreadableArrayError, texts_of_array
from streams.producers.items import SourceError
from streams.producers.row_files import BATCH, MatrixFile, MemberFile, RowFile, array_rows
from streams.producers.tracks import EmbeddingOptions

pytestmark = pytest.mark.unit

Arrays = dict[str, npt.NDArray[Any]]


def npz(path: Path, arrays: Arrays) -> Path:
    """A `.npz` of these."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def hdf5(path: Path, arrays: Arrays) -> Path:
    """An HDF5 file of these; a slash in a name makes a group."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array.astype("S") if array.dtype.kind == "U" else array
    return path


@pytest.fixture(params=["a.npz", "a.H5"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Arrays], Path]:
    """Write arrays into a file of either kind."""
    path = tmp_path / request.param
    return lambda arrays: npz(path, arrays) if path.suffix == ".npz" else hdf5(path, arrays)


def rows(file: RowFile, skip: int = 0) -> list[tuple[Any, Any]]:
    """Ids and arrays, as lists."""
    return [
        (name, None if array is None else array.tolist())
        for batch in file.batches(skip)
        for name, array in zip(batch.ids, batch.arrays, strict=True)
    ]


MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2)
IDS = np.array(["a", "b", "c"])
WHOLE = [("a", [0.0, 1.0]), ("b", [2.0, 3.0]), ("c", [4.0, 5.0])]


def test_a_matrix_is_found_by_its_usual_name_with_the_ids_beside_it(write: Callable[[Arrays], Path]) -> None:
    """Other arrays in the file do not matter."""
    path = write({"embeddings": MATRIX, "mean": np.ones((4, 4)), "track_ids": IDS})
    file = array_rows(path, None, EmbeddingOptions())
    assert isinstance(file, MatrixFile)
    assert (file.count, rows(file), rows(file, 2)) == (3, WHOLE, WHOLE[2:])
    assert list(file.shapes()) == [(2,)]


def test_an_array_a_track_is_named_by_its_place(write: Callable[[Arrays], Path]) -> None:
    """Where each track has several, the key says which; arrays that are no floats are none."""
    path = write(
        {"bach/1/clap": MATRIX[0], "bach/1/mert": MATRIX[1], "bach/2/clap": MATRIX[2], "n": np.array([3])}
    )
    file = array_rows(path, None, EmbeddingOptions(key="clap"))
    assert isinstance(file, MemberFile)
    assert sorted(rows(file)) == [("bach/1", [0.0, 1.0]), ("bach/2", [4.0, 5.0])]
    with pytest.raises(SourceError, match="holds no arrays of floats named muq"):
        array_rows(path, None, EmbeddingOptions(key="muq"))


def test_two_likely_matrices_need_a_key(write: Callable[[Arrays], Path]) -> None:
    """And a key that is no matrix of the file is refused."""
    path = write({"clap": MATRIX, "mert": MATRIX + 1, "ids": IDS})
    with pytest.raises(SourceError, match="it holds clap, mert: say which with --key"):
        array_rows(path, None, EmbeddingOptions())
    assert rows(array_rows(path, None, EmbeddingOptions(key="mert")))[0] == ("a", [1.0, 2.0])
    with pytest.raises(SourceError, match="say which with --key"):
        array_rows(path, None, EmbeddingOptions(key="ids"))


def test_more_ids_than_rows_are_refused(write: Callable[[Arrays], Path]) -> None:
    """Nobody can tell which of them has none."""
    path = write({"x": MATRIX[:2], "id": IDS})
    with pytest.raises(SourceError, match="has 2 rows, but there are 3 ids"):
        array_rows(path, None, EmbeddingOptions())


def test_a_file_without_ids_says_how_to_give_them(tmp_path: Path) -> None:
    """A `.npy` of several rows; one axis is one track, and so is what has its axes said."""
    np.save(tmp_path / "all.npy", MATRIX)
    np.save(tmp_path / "one.npy", MATRIX[1])
    with pytest.raises(
        SourceError, match=r"shape \(3, 2\), and nothing says whose .* put all.ids.txt beside it"
    ):
        array_rows(tmp_path / "all.npy", None, EmbeddingOptions())
    assert rows(array_rows(tmp_path / "one.npy", None, EmbeddingOptions())) == [("one", [2.0, 3.0])]
    (tmp_path / "all.ids.txt").write_text("a\nb\nc\n")
    assert rows(array_rows(tmp_path / "all.npy", None, EmbeddingOptions())) == WHOLE


def test_a_large_matrix_comes_in_batches(tmp_path: Path) -> None:
    """From any row on."""
    count = 2 * BATCH + 5
    np.save(tmp_path / "a.npy", np.arange(count, dtype=np.float32)[:, None])
    (tmp_path / "ids.txt").write_text("".join(f"t{at}\n" for at in range(count)))
    file = array_rows(tmp_path / "a.npy", tmp_path / "ids.txt", EmbeddingOptions())
    assert [len(batch.ids) for batch in file.batches(3)] == [BATCH, BATCH, 2]
    assert rows(file, count - 2) == [(f"t{count - 2}", [count - 2.0]), (f"t{count - 1}", [count - 1.0])]


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([b"a", "é".encode()]), ["a", "é"]),
        (np.array([7, 8], dtype=np.uint16), ["7", "8"]),
        (np.array([7.0, 8.0]), ["7", "8"]),
        (np.array(["a", 3], dtype=object), ["a", "3"]),
    ],
)
def test_ids_are_text_or_whole_numbers(array: npt.NDArray[Any], texts: list[str]) -> None:
    """A spreadsheet's floats among them, without their points."""
    assert texts_of_array(array) == texts


@pytest.mark.parametrize("array", [np.array([0.5]), np.array([np.nan]), np.array([True]), np.array([["a"]])])
def test_other_arrays_are_no_ids(array: npt.NDArray[Any]) -> None:
    """Fractions, truth values, and tables."""
    with pytest.raises(SourceError, match=r"^ids must be"):
        texts_of_array(array)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00 and no more", b"PK\x03\x04"])
def test_a_damaged_file_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    """Which says of what kind it is not."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableArrayError, match=f"is not a {Path(name).suffix} file that can be read"):
        ArrayFile(tmp_path / name).infos()


def test_an_archive_under_another_name_is_one_error(tmp_path: Path) -> None:
    """What is renamed to `.npy` is no array."""
    npz(tmp_path / "a.npz", {"x": MATRIX}).rename(tmp_path / "a.npy")
    with pytest.raises(UnreadableArrayError, match=r"is not a \.npy file that can be read"):
        ArrayFile(tmp_path / "a.npy").infos()


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    """They could run anything."""
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableArrayError, match="Python objects"):
        ArrayFile(tmp_path / "a.npy").infos()


def test_archives_without_arrays_hold_none(tmp_path: Path) -> None:
    """Neither of the two kinds."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "")
    hdf5(tmp_path / "a.h5", {})
    for name in ("a.npz", "a.h5"):
        with pytest.raises(UnreadableArrayError, match=r"^holds no arrays$"):
            ArrayFile(tmp_path / name).infos()


def test_the_array_of_a_tracks_features_is_the_only_likely_one(write: Callable[[Arrays], Path]) -> None:
    """By what it is called, or as the only one of floats; else it has to be said."""
    file = ArrayFile(write({"features": MATRIX, "mean": MATRIX, "rate": np.array([44_100])}))
    assert file.vector_name() == "features"
    assert file.vector_name("mean") == "mean"
    with pytest.raises(UnreadableArrayError, match="holds no array 'mel', but "):
        file.vector_name("mel")
    several = ArrayFile(write({"clap": MATRIX, "mert": MATRIX}))
    with pytest.raises(UnreadableArrayError, match=r"holds several arrays \(clap, mert\)"):
        several.vector_name()

"""Parquet and Arrow files with a row a track."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from streams.producers.columnar import ColumnarFile
from streams.producers.items import SourceError
from streams.producers.report import SourceReport
from streams.producers.row_files import BATCH

pytestmark = pytest.mark.unit


def parquet(folder: Path, columns: dict[str, Any], **options: Any) -> ColumnarFile:
    """A file of these columns, opened."""
    path = folder / "tracks.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=700)
    return ColumnarFile(path, **options)


def refusal(folder: Path, columns: dict[str, Any], **options: Any) -> str:
    """What is said of a file that cannot be published."""
    with pytest.raises(SourceError) as error:
        parquet(folder, columns, **options)
    return str(error.value)


def rows(file: ColumnarFile, skip: int = 0) -> list[tuple[Any, Any]]:
    """Ids and arrays, as lists."""
    return [
        (name, None if array is None else array.tolist())
        for batch in file.batches(skip)
        for name, array in zip(batch.ids, batch.arrays, strict=True)
    ]


def test_components_in_columns_are_put_in_order_of_their_numbers(tmp_path: Path) -> None:
    """`f10` is behind `f9`; other columns with a number at the end are facts."""
    components = {f"f_{at}": pa.array([float(at)], pa.float32()) for at in reversed(range(12))}
    file = parquet(tmp_path, {"id": ["a"], "bpm_2": [90.0], **components})
    assert rows(file) == [("a", [float(at) for at in range(12)])]
    report = SourceReport()
    file.describe(report)
    assert "the vector is columns f_0 to f_11" in "\n".join(report.lines())


@pytest.mark.parametrize("numbers", [(2, 3, 4), (0, 1, 3), (0,)])
def test_columns_with_gaps_are_no_vector(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """They begin at 0 or 1, are at least two, and none is missing."""
    said = refusal(tmp_path, {"id": ["a"], **{f"f{at}": [0.5] for at in numbers}})
    assert "no column of lists of floats, and no columns numbered from 0 or 1" in said


def test_two_series_of_columns_are_one_too_many(tmp_path: Path) -> None:
    """Which of them is the vector nobody can tell."""
    said = refusal(tmp_path, {"id": ["a"], "f0": [0.5], "f1": [0.5], "g0": [0.5], "g1": [0.5]})
    assert "its columns are id, f0, f1, g0, g1" in said


def test_of_several_columns_of_vectors_the_usual_name_counts(tmp_path: Path) -> None:
    """Where none has one, `--key` has to say it."""
    one, other = [[1.0, 0.0]], [[0.0, 1.0]]
    assert rows(parquet(tmp_path, {"id": ["a"], "Embedding": one, "mel": other})) == [("a", one[0])]
    columns = {"id": ["a"], "clap": one, "mel": other}
    assert "several columns of vectors (clap, mel): say which with --key" in refusal(tmp_path, columns)
    assert rows(parquet(tmp_path, columns, vector="mel")) == [("a", other[0])]
    assert "has no column 'mert'; it has id, clap, mel" in refusal(tmp_path, columns, vector="mert")
    assert "column id holds string, not lists of floats" in refusal(tmp_path, columns, vector="id")


def test_a_file_that_names_no_track_says_which_columns_it_has(tmp_path: Path) -> None:
    """The map says which it is."""
    columns = {"sku": ["a"], "vector": [[1.0]]}
    assert "its columns are sku, vector: say which with --map track_id=COLUMN" in refusal(tmp_path, columns)
    assert rows(parquet(tmp_path, columns, wanted={"track_id": "sku"})) == [("a", [1.0])]


@pytest.mark.parametrize("skip", [0, 1, 699, 700, 1_024, 2_999, 3_000])
def test_reading_goes_on_anywhere(tmp_path: Path, skip: int) -> None:
    """Whatever batches and row groups the file has, rows behind those skipped come once and in order."""
    file = parquet(
        tmp_path, {"id": [str(at) for at in range(3_000)], "vector": [[float(at)] for at in range(3_000)]}
    )
    assert file.count == 3_000
    assert rows(file, skip) == [(str(at), [float(at)]) for at in range(skip, 3_000)]
    assert all(len(batch.ids) <= BATCH for batch in file.batches(0))


@pytest.mark.parametrize(
    ("vectors", "arrays"),
    [
        ([[1.0, 2.0], None, [3.0, 4.0]], [[1.0, 2.0], None, [3.0, 4.0]]),
        ([[1.0, 2.0], [3.0], []], [[1.0, 2.0], [3.0], None]),
        ([[1.0, None], [3.0, 4.0], [5.0, 6.0]], [[1.0, None], [3.0, 4.0], [5.0, 6.0]]),
        ([[1.0], [2.0, 3.0, 4.0], [5.0, 6.0]], [[1.0], [2.0, 3.0, 4.0], [5.0, 6.0]]),
    ],
)
def test_rows_without_a_whole_vector_do_not_move_the_others(
    tmp_path: Path, vectors: list[Any], arrays: list[Any]
) -> None:
    """A null, a row of another length and a null within leave each track its own numbers, the missing one not a number."""
    file = parquet(tmp_path, {"id": ["a", "b", "c"], "vector": pa.array(vectors, pa.list_(pa.float32()))})
    found = [array for _, array in rows(file)]
    assert [
        None if each is None else [None if math.isnan(x) else x for x in each] for each in found
    ] == arrays


def test_matrices_keep_their_axes(tmp_path: Path) -> None:
    """A list of lists is an array of two axes; rows of different lengths are none."""
    file = parquet(tmp_path, {"id": ["a", "b"], "vector": [[[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0, 3.0]]]})
    assert rows(file) == [("a", [[1.0, 2.0], [3.0, 4.0]]), ("b", None)]
    assert list(file.shapes()) == [(2, 2)]


@pytest.mark.parametrize("stream", [False, True])
def test_arrows_files_and_streams_are_read_alike(tmp_path: Path, stream: bool) -> None:
    """Both from the first row as often as one likes: the count is known before."""
    path, data = tmp_path / "a.arrow", pa.table({"id": ["a", "b"], "vector": [[1.0], [2.0]]})
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(str(path), data.schema) as writer:
        for batch in data.to_batches(max_chunksize=1):
            writer.write_batch(batch)
    file = ColumnarFile(path)
    assert (file.count, rows(file, 1), rows(file)) == (2, [("b", [2.0])], [("a", [1.0]), ("b", [2.0])])


def test_feather_with_fixed_lists_of_half_floats_is_read(tmp_path: Path) -> None:
    """Vectors as some embedders write them."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.array([1, 2, 3, 4], dtype=np.float16)), 2)
    pyarrow.feather.write_feather(pa.table({"id": ["a", "b"], "emb": vectors}), tmp_path / "a.feather")
    assert rows(ColumnarFile(tmp_path / "a.feather")) == [("a", [1.0, 2.0]), ("b", [3.0, 4.0])]


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    """Cut short, or anything else."""
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 and no more")
        with pytest.raises(SourceError, match=f"{name} cannot be read"):
            ColumnarFile(tmp_path / name)

"""Pages of an export and the files that they are written to, without a store."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from mess.export import files, pages
from mess.export.files import SNAPSHOT_KEY, ExportFileError, MissingLibraryError, export_file
from mess.export.names import ExportFormat, ExportKind
from mess.export.pages import ExportPage, export_pages
from store import exports
from store.columns import METADATA_FIELDS
from store.exports import ExportShape, ListPage

pytestmark = pytest.mark.unit

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SNAPSHOT = {"taken_at": NOON, "version": 7}
SHAPE = ExportShape(
    lists=3, tracks=3, popularity=1, width=4, longest_id=6, dimension=2, aspects=None, model=None, version=7, taken_at=NOON
)  # fmt: skip
# Keys of the tracks that have lists; 20 and 90 have been withdrawn.
KEYS, NAMES = np.array([10, 30, 50]), np.array(["ten", "thirty", "fifty"], dtype=object)


def lists() -> ListPage:
    """Lists of different lengths that name tracks which are gone."""
    return ListPage(
        keys=KEYS,
        track_ids=NAMES.tolist(),
        neighbours=np.array([[20, 50, 90], [50, 10, 0], [90, 0, 0]]),
        scores=np.array([[0.9, 0.8, 0.7], [0.5, 0.4, 0.0], [0.3, 0.0, 0.0]], dtype=np.float32),
        lengths=np.array([3, 2, 1]),
        rest=([7, 5, 3], [0, 1, 1], [100, 200, 300], [None, NOON, None], [NOON] * 3),
    )


class Row(dict[str, Any]):
    """A record of asyncpg's: by name and by place, and its values are what it yields."""

    def __getitem__(self, at: Any) -> Any:
        return super().__getitem__(at) if isinstance(at, str) else list(self.values())[at]

    def __iter__(self) -> Any:
        return iter(self.values())


def track(track_id: str, offset: int, event_time: datetime | None, **known: Any) -> Row:
    """A row as the store has it, in the order of its columns."""
    metadata = {**dict.fromkeys(METADATA_FIELDS), "tags": [], "artists": [], "extra": {}, **known}
    return Row(
        track_id=track_id,
        **metadata,
        embedding=np.array([0.6, 0.8], dtype="<f4").tobytes(),
        source_partition=1,
        source_offset=offset,
        event_time=event_time,
        created_at=NOON,
        updated_at=NOON,
    )


def made(monkeypatch: pytest.MonkeyPatch, kind: ExportKind, shape: ExportShape = SHAPE) -> list[ExportPage]:
    """The pages of a store that holds the above."""

    async def names(_: object) -> tuple[Any, Any]:
        return KEYS, NAMES

    async def of_lists(_: object) -> AsyncIterator[ListPage]:
        yield lists()

    async def of_tracks(_: object) -> AsyncIterator[list[Any]]:
        yield [
            track("ten", 100, None, title="Air", tags=["calm"], extra={"bpm": 60}),
            track("thirty", 200, NOON),
        ]

    async def of_popularity(_: object) -> AsyncIterator[list[Any]]:
        yield [Row(track_id="ten", value=1.5, count=3.0, reference=NOON)]

    async def gathered() -> list[ExportPage]:
        return [page async for page in export_pages(None, kind, shape)]  # type: ignore[arg-type]

    monkeypatch.setattr(exports, "read_listed_names", names)
    monkeypatch.setattr(exports, "list_pages", of_lists)
    monkeypatch.setattr(exports, "track_pages", of_tracks)
    monkeypatch.setattr(exports, "popularity_pages", of_popularity)
    return asyncio.run(gathered())


def test_who_is_gone_leaves_no_gap_in_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind it moves up with its score; a list of none but those is empty."""
    (page,) = made(monkeypatch, ExportKind.LISTS)
    columns = page.columns()
    assert columns["neighbours"] == [["fifty"], ["fifty", "ten"], []]
    assert [each.tolist() for each in columns["scores"]] == [
        pytest.approx([0.8]),
        pytest.approx([0.5, 0.4]),
        [],
    ]
    told = page.objects()[1]
    assert (told["track_id"], told["version"], told["generated_at"]) == ("thirty", 5, NOON)
    assert told["source"] == {"partition": 1, "offset": 200, "event_time": NOON}
    assert [each["track_id"] for each in told["recommendations"]] == ["fifty", "ten"]


def test_arrays_name_rows_of_the_export_and_are_as_wide_as_its_longest_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Padded by -1 and NaN beyond what counts."""
    (page,) = made(monkeypatch, ExportKind.LISTS)
    arrays = page.arrays()
    assert arrays["neighbours"].tolist() == [[2, -1, -1, -1], [2, 0, -1, -1], [-1] * 4]
    assert np.isnan(arrays["scores"]).tolist() == (arrays["neighbours"] == -1).tolist()
    assert arrays["lengths"].tolist() == [1, 2, 0]
    assert arrays["track_ids"].tolist() == NAMES.tolist()


@pytest.mark.parametrize("kind", list(ExportKind))
def test_arrays_have_the_types_that_are_promised_before_the_first_page(
    monkeypatch: pytest.MonkeyPatch, kind: ExportKind
) -> None:
    """A file of nothing looks like a file of something."""
    empty = pages.empty_arrays(kind, SHAPE)
    for page in made(monkeypatch, kind):
        for name, values in page.arrays().items():
            assert (values.dtype, values.shape[1:]) == (empty[name].dtype, empty[name].shape[1:]), name


def test_a_track_says_what_is_known_of_it_as_an_event_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is left out; so is the model of a catalogue that has none."""
    (page,) = made(monkeypatch, ExportKind.TRACKS)
    first, second = page.objects()
    assert first["metadata"] == {"title": "Air", "tags": ["calm"], "extra": {"bpm": 60}}
    assert (second["metadata"], second["event_time"]) == ({}, NOON)
    assert "model" not in first
    assert first["embedding"].tolist() == pytest.approx([0.6, 0.8])


def test_a_vector_of_aspects_is_told_by_aspect(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model's name, so that the lines can be published again."""
    shape = replace(SHAPE, model="m/1", aspects=[("melody", 1, 1.0), ("rhythm", 1, 1.0)])
    told = made(monkeypatch, ExportKind.TRACKS, shape)[0].objects()[0]
    assert told["model"] == "m/1"
    assert list(told["embedding"]) == ["melody", "rhythm"]


def written(monkeypatch: pytest.MonkeyPatch, path: Path | None, form: ExportFormat, kind: ExportKind) -> None:
    """Write a whole export."""
    with export_file(path, form, kind, SHAPE, SNAPSHOT) as file:
        for page in made(monkeypatch, kind):
            file.add(page)


@pytest.mark.parametrize("kind", list(ExportKind))
def test_parquet_has_a_row_a_track_and_says_of_when_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: ExportKind
) -> None:
    """And nothing but the file is left in the folder."""
    written(monkeypatch, tmp_path / "a.parquet", ExportFormat.PARQUET, kind)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.num_rows == {ExportKind.LISTS: 3, ExportKind.TRACKS: 2, ExportKind.POPULARITY: 1}[kind]
    assert json.loads(table.schema.metadata[SNAPSHOT_KEY.encode()])["version"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    if kind is ExportKind.TRACKS:
        assert table["embedding"].to_pylist()[0] == pytest.approx([0.6, 0.8])
        assert table["extra"].to_pylist() == ['{"bpm":60}', "{}"]


def test_arrays_are_read_as_numpy_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without pickling, the snapshot among them."""
    written(monkeypatch, tmp_path / "a.npz", ExportFormat.NPZ, ExportKind.LISTS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert loaded["neighbours"].tolist() == [[2, -1, -1, -1], [2, 0, -1, -1], [-1] * 4]
        assert json.loads(str(loaded["snapshot"])) == {"taken_at": "2026-01-02T12:00:00Z", "version": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_lines_have_their_snapshot_beside_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line holds nothing but its track."""
    written(monkeypatch, tmp_path / "a.jsonl", ExportFormat.JSONL, ExportKind.POPULARITY)
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {
        "track_id": "ten",
        "value": 1.5,
        "count": 3.0,
        "reference": "2026-01-02T12:00:00Z",
    }
    assert json.loads((tmp_path / "a.jsonl.snapshot.json").read_text())["version"] == 7


@pytest.mark.parametrize("form", list(ExportFormat))
def test_what_fails_half_way_leaves_the_file_that_was_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: ExportFormat
) -> None:
    """And nothing of its own."""
    path = tmp_path / "a"
    path.write_text("of yesterday")

    def fail() -> None:
        with export_file(path, form, ExportKind.LISTS, SHAPE, SNAPSHOT) as file:
            file.add(made(monkeypatch, ExportKind.LISTS)[0])
            raise ConnectionError("the store went away")

    with pytest.raises(ConnectionError):
        fail()
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", list(ExportFormat))
def test_a_folder_that_is_not_there_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: ExportFormat
) -> None:
    """It names the file, not the one that it is written to meanwhile."""
    path = tmp_path / "no" / "a"
    with pytest.raises(ExportFileError, match=f"^{path} cannot be written: No such file or directory$"):
        written(monkeypatch, path, form, ExportKind.LISTS)


def test_a_reader_that_has_gone_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `mess export ... | head`."""

    class Gone(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    class Out:
        buffer = Gone()

    monkeypatch.setattr(sys, "stdout", Out())
    with pytest.raises(ExportFileError) as error:
        written(monkeypatch, None, ExportFormat.JSONL, ExportKind.POPULARITY)
    assert error.value.reader_gone
    assert Out.buffer.getvalue().startswith(b'{"track_id":"ten"')


def test_parquet_without_pyarrow_says_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extra's name."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(files.importlib, "import_module", missing)
    with pytest.raises(MissingLibraryError, match=r"pip install 'mess-ai\[files\]'"):
        written(monkeypatch, tmp_path / "a", ExportFormat.PARQUET, ExportKind.LISTS)

"""JSON lines as a source."""

import json
import os
from pathlib import Path

import pytest

from streams.contracts import MAX_EVENT_BYTES, TrackUpsert, parse_track_event
from streams.producers.items import Record, RefusedRecord, SourceError, TrackItem
from streams.producers.jsonl import JsonLines
from streams.producers.tracks import EmbeddingOptions
from streams.strategies.aspects import Layout

pytestmark = pytest.mark.unit


def line(track_id: str, *embedding: float) -> bytes:
    """Return one good line."""
    return json.dumps({"track_id": track_id, "embedding": embedding or [1.0, 2.0]}).encode()


def write(folder: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    """Return a file of these lines."""
    path = folder / "tracks.jsonl"
    path.write_bytes(b"\n".join(lines) + end)
    return path


def shown(records: list[Record]) -> list[tuple[object, str]]:
    """Return positions beside track ids or reasons."""
    return [
        (record.position, record.key.decode() if isinstance(record, TrackItem) else record.reason)
        for record in records
        if record is not None
    ]


@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n"])
def test_good_lines_are_sent_and_bad_ones_named_by_their_number(tmp_path: Path, end: bytes) -> None:
    """Blank lines count but say nothing; a byte order mark and a missing last newline do no harm."""
    path = write(
        tmp_path, b"\xef\xbb\xbf" + line("a"), b"", b"{bad", line("b"), line("c", 1.0), line("d"), end=end
    )
    records = list(JsonLines(path).records(None))
    assert shown(records) == [(1, "a"), (3, "malformed_json"), (4, "b"), (5, "wrong_dimension"), (6, "d")]
    assert isinstance(records[1], RefusedRecord)
    assert records[1].where == "line 3"


def test_what_is_sent_passes_the_door(tmp_path: Path) -> None:
    """A sent line is the event itself, cleaned and packed."""
    (item,) = JsonLines(write(tmp_path, line("ü/1", 3.0, 4.0))).records(None)
    assert isinstance(item, TrackItem)
    read = parse_track_event(item.key, item.value, layout=Layout(2))
    assert isinstance(read, TrackUpsert)
    assert read.vector.tolist() == pytest.approx([0.6, 0.8])


def test_a_run_goes_on_after_the_line_it_came_to_and_with_its_dimension(tmp_path: Path) -> None:
    """Resuming skips what is settled, and still holds the rest to the first line's dimension."""
    path = write(tmp_path, line("a"), line("b"), line("c", 1.0, 2.0, 3.0), line("d"))
    assert shown(list(JsonLines(path).records(2))) == [(3, "wrong_dimension"), (4, "d")]


def test_a_given_dimension_binds_the_first_line_too(tmp_path: Path) -> None:
    """With the catalogue's dimension known, no line may fix another."""
    assert shown(
        list(JsonLines(write(tmp_path, line("a")), EmbeddingOptions(dimension=3)).records(None))
    ) == [(1, "wrong_dimension")]


def test_a_line_too_long_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    """A line beyond the size of an event is dropped without being kept in memory."""
    path = write(tmp_path, b"x" * (MAX_EVENT_BYTES + 2_000_000), line("b"), b"y" * (MAX_EVENT_BYTES + 1))
    records = list(JsonLines(path).records(None))
    assert shown(records) == [(1, "too_large"), (2, "b"), (3, "too_large")]
    done = [record.done for record in records if record is not None]
    assert done == sorted(done)
    assert path.stat().st_size - 1 <= done[-1] <= path.stat().st_size


def test_lines_split_over_reads_are_whole(tmp_path: Path) -> None:
    """Lines that straddle the reader's blocks are put together."""
    lines = [line(f"t{i}", *([0.123456] * 3_000)) for i in range(100)]
    records = list(JsonLines(write(tmp_path, *lines)).records(None))
    assert shown(records) == [(i + 1, f"t{i}") for i in range(100)]


def test_a_silent_pipe_yields_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes from standard input the reader says so, and can be asked to stop."""
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        records = JsonLines(None).records(None)
        os.write(writing, line("a") + b"\n")
        first = next(records)
        assert isinstance(first, TrackItem)
        assert next(records) is None
        os.close(writing)
        assert list(records) == []
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)


def test_files_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    with pytest.raises(SourceError, match=r"nothing\.jsonl cannot be read"):
        JsonLines(tmp_path / "nothing.jsonl")
    with pytest.raises(SourceError, match="is a folder"):
        JsonLines(tmp_path)

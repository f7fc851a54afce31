"""State files, deletes, and the watermark of what is settled."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.producers.checkpoint import Checkpoint
from streams.producers.deletes import DeleteSource
from streams.producers.items import RefusedRecord, SourceError, TrackItem
from streams.producers.publisher import _Watermark

pytestmark = pytest.mark.unit


@given(st.integers(1, 30).flatmap(lambda n: st.permutations(range(n))))
def test_the_watermark_never_passes_an_open_message(order: list[int]) -> None:
    """Whatever the order of acknowledgements, the position is the last of an unbroken settled run."""
    watermark = _Watermark()
    tickets = [watermark.enter(position + 1) for position in range(len(order))]
    settled: set[int] = set()
    for at in order:
        position = watermark.leave(tickets[at])
        settled.add(at)
        unbroken = next(i for i in range(len(order) + 1) if i not in settled)
        assert position == (unbroken or None)


def test_a_checkpoint_comes_back_for_the_same_source_alone(tmp_path: Path) -> None:
    """A saved position is loaded by a run over the same source, and refused to any other."""
    path = tmp_path / "state"
    Checkpoint(path, {"kind": "jsonl", "name": "a"}).save(17)
    assert Checkpoint(path, {"kind": "jsonl", "name": "a"}).load() == 17
    with pytest.raises(SourceError, match="its name differs"):
        Checkpoint(path, {"kind": "jsonl", "name": "b"}).load()
    checkpoint = Checkpoint(path, {"kind": "jsonl", "name": "a"})
    checkpoint.clear()
    assert checkpoint.load() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": 1}', b'{"version": 9, "position": 1, "source": {}}']
)
def test_a_damaged_state_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    """A state file that cannot be understood is named, never guessed at."""
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(SourceError, match="state"):
        Checkpoint(tmp_path / "state", {}).load()


def test_a_folder_that_cannot_be_written_costs_resuming_alone(tmp_path: Path) -> None:
    """A run goes on without its state file."""
    checkpoint = Checkpoint(tmp_path / "missing" / "state", {})
    checkpoint.save(1)
    checkpoint.save(2)
    assert not checkpoint.writable


def test_deletes_come_from_arguments_and_lines(tmp_path: Path) -> None:
    """Every id becomes a null value; blank lines are passed over, impossible ids refused by line."""
    path = tmp_path / "ids"
    path.write_bytes("a\n\nü/1\r\nb\tc\n".encode() + b"\xff\n")
    source = DeleteSource(["x", ""], path)
    records = list(source.records(None))
    assert [record.key.decode() for record in records if isinstance(record, TrackItem)] == ["x", "a", "ü/1"]
    assert all(record.value is None for record in records if isinstance(record, TrackItem))
    assert [(r.where, r.reason) for r in records if isinstance(r, RefusedRecord)] == [
        ("track id 2", "invalid_track_id"),
        ("line 4", "invalid_track_id"),
        ("line 5", "not_utf8"),
    ]
    assert source.total == 6

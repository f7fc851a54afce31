"""What `mess status` sees of processes and of a data directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mess.stack import inspection
from mess.stack.datadir import locked_data_directory
from mess.stack.inspection import inspect_stack, process_report
from mess.stack.statefile import Pids, StackState, write_state
from store.status import StoreCounts

pytestmark = pytest.mark.unit

COUNTS = StoreCounts(tracks=3, lists=3, full_lists=2, list_version=9, dimension=8, revision="0001")


def test_a_process_counts_with_its_descendants() -> None:
    """Its own memory and theirs; one that has gone has none."""
    alone = process_report("this", os.getpid())
    holding = "held = b'x' * 50_000_000; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = process_report("this", os.getpid())
        child.communicate(b"\n")
    assert alone.alive
    assert both.memory_bytes > alone.memory_bytes + 25_000_000
    gone = process_report("child", child.pid)
    assert (gone.alive, gone.memory_bytes) == (False, 0)


async def test_a_directory_without_a_running_stack_has_no_report(tmp_path: Path) -> None:
    """Neither an empty one, nor one whose stack has left its note behind."""
    assert await inspect_stack(tmp_path) is None
    write_state(tmp_path, _state())
    assert await inspect_stack(tmp_path) is None


async def test_what_cannot_be_asked_is_not_known_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack runs only if each of its processes does; an external part has no process."""

    async def counts(_: StackState) -> StoreCounts:
        return COUNTS

    async def unknown(*_: object) -> None:
        return None

    async def silent(_: str) -> tuple[str | None, list[str]]:
        return None, []

    monkeypatch.setattr(inspection, "_counts", counts)
    monkeypatch.setattr(inspection, "_lags", unknown)
    monkeypatch.setattr(inspection, "_health", silent)
    with locked_data_directory(tmp_path):
        write_state(tmp_path, _state())
        report = await inspect_stack(tmp_path)
        assert report is not None
        assert [process.name for process in report.processes] == ["worker-1", "worker-2", "api"]
        assert [process.alive for process in report.processes] == [True, False, True]
        assert not report.running
        assert (report.tracks, report.full_lists, report.topics, report.health) == (3, 2, None, None)


def _state() -> StackState:
    """Two workers, of which one has gone, on a database and a broker of others."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return StackState(
        http_url="http://127.0.0.1:1",
        bootstrap_servers="127.0.0.1:1",
        database_url="postgresql://mess@127.0.0.1:1/mess",
        broker="external",
        pids=Pids(api=os.getpid(), workers=[os.getpid(), gone.pid], broker=None, postgres=None),
    )

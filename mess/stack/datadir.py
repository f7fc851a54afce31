"""The stack's data directory: recognises and locks it, and ends leftover processes of an earlier run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import psutil

from mess.stack.errors import StackError
from mess.stack.files import private_directory, write_private
from mess.stack.service import Report

MARKER = "mess.json"
LOCK = "lock"
PROCESSES = "processes.json"
LAYOUT = 1


@contextlib.contextmanager
def locked_data_directory(data_dir: Path) -> Iterator[None]:
    """Lock the data directory for one stack; creates it if it is missing.

    The lock is the kernel's: it ends with this process, however that ends.

    Raises:
        StackError: Another stack runs on it, it is something else's directory, or it cannot be written.
    """
    try:
        private_directory(data_dir)
        _check_marker(data_dir)
        _keep_others_out(data_dir)
        lock = (data_dir / LOCK).open("a+")
    except OSError as error:
        raise StackError(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StackError(
                f"a stack is already running on {data_dir} (process {holder}); see `mess status`"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def is_locked(data_dir: Path) -> bool:
    """Say whether a stack holds this data directory now."""
    try:
        with (data_dir / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def note_processes(data_dir: Path, pids: Mapping[str, int]) -> None:
    """Record the running processes, so that a later run can tell leftovers from other processes."""
    notes = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            notes[name] = [pid, psutil.Process(pid).create_time()]
    write_private(data_dir / PROCESSES, orjson.dumps(notes))


def end_leftovers(data_dir: Path, report: Report) -> None:
    """End processes of an earlier run that outlived both it and its guardian. Call it with the lock held."""
    try:
        notes = orjson.loads((data_dir / PROCESSES).read_bytes())
        noted = [(str(name), int(pid), float(started)) for name, (pid, started) in notes.items()]
    except (OSError, ValueError, TypeError, AttributeError):
        return
    left = []
    for name, pid, started in reversed(noted):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            # Process ids are reused; the start time tells processes apart.
            if abs(process.create_time() - started) < 0.01 and process.status() != psutil.STATUS_ZOMBIE:
                report(f"ending {name} of an earlier run (process {pid})")
                process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    (data_dir / PROCESSES).unlink(missing_ok=True)


def _keep_others_out(data_dir: Path) -> None:
    """Restrict the directory to its owner; earlier versions left it open to other users."""
    for directory, names, _ in os.walk(data_dir):
        for name in names:
            private_directory(Path(directory, name))


def _check_marker(data_dir: Path) -> None:
    marker = data_dir / MARKER
    if not marker.exists():
        if any(data_dir.iterdir()):
            raise StackError(f"{data_dir} holds other files and is not a data directory of this program")
        write_private(marker, orjson.dumps({"layout": LAYOUT}))
        return
    try:
        layout = orjson.loads(marker.read_bytes())["layout"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StackError(f"the data directory {data_dir} is broken: {marker.name} cannot be read") from error
    if layout != LAYOUT:
        raise StackError(f"the data directory {data_dir} has layout {layout}, this program uses {LAYOUT}")


def published_note(data_dir: Path) -> Path:
    """Where a data directory has the note that the demo catalogue has been published."""
    return data_dir / "demo.json"

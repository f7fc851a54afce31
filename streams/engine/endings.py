"""Ends of processes: how a spawned one ended, for the one line that a log gets, and how one ends with its parent."""

import os
import signal
import threading
from multiprocessing.process import BaseProcess
from typing import IO

# Of two threads that wait for one process, the kernel tells one how it ended, and the other that there is no such
# process: multiprocessing takes that for one that runs.
_one_waits = threading.Lock()


def how_it_ended(process: BaseProcess | None) -> str:
    """Say how a process ended that does not answer any more: its exit status, or the signal that killed it.

    A kill that nobody has sent is that of the kernel where memory runs out, and is said to be.
    """
    if process is None:
        return ""
    with _one_waits:
        process.join(5)
        status = process.exitcode
    if status is None:
        return ": it runs, and does not answer"
    if status == -signal.SIGKILL:
        return ": it was killed (SIGKILL); where nobody did that, this machine or container was out of memory"
    if status < 0:
        return f": it was ended by {signal.Signals(-status).name}"
    return f": it ended with status {status}"


def last_line(errors: IO[bytes]) -> str:
    """What a process said last, for the end of a message: a colon and the line, shortened; empty where it said nothing."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(said) if line.strip()), "")
    return f"{': ' if last else ''}{last[:300]}"


def end_with_parent() -> None:
    """Have this process end with the one that started it and holds the other end of its standard input."""

    def watch() -> None:
        # The other end of this pipe is closed when the parent is gone, however it went. Not by way of `sys.stdin`: an
        # interpreter that ends would wait for its lock, and abort.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()

"""How a spawned process ended, for the one line that a log gets."""

import signal
import threading
from multiprocessing.process import BaseProcess

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

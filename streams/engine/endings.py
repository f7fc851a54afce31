"""How a spawned process ended, for the one line that a log gets."""

import signal
from multiprocessing.process import BaseProcess


def how_it_ended(process: BaseProcess | None) -> str:
    """Say how a process ended that does not answer any more: its exit status, or the signal that killed it.

    A kill that nobody has sent is that of the kernel where memory runs out, and is said to be.
    """
    if process is None:
        return ""
    process.join(1)
    status = process.exitcode
    if status is None:
        return ": it runs, and does not answer"
    if status == -signal.SIGKILL:
        return ": it was killed (SIGKILL); where nobody did that, this machine or container was out of memory"
    if status < 0:
        return f": it was ended by {signal.Signals(-status).name}"
    return f": it ended with status {status}"

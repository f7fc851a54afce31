"""Points at which a test may have this process die. For tests only: without MESS_FAULT_POINT nothing ever happens.

`MESS_FAULT_POINT=before-track-commit:3` makes the process kill itself with SIGKILL the third time it reaches that
point, as a machine that loses its power would: nothing is flushed, closed or told.
"""

import os
import signal
from enum import StrEnum
from typing import Final

VARIABLE: Final = "MESS_FAULT_POINT"


class FaultPoint(StrEnum):
    """The points between which a worker's promises could break."""

    BEFORE_DEAD_LETTERS = "before-dead-letters"
    AFTER_DEAD_LETTERS = "after-dead-letters"
    BEFORE_TRACK_COMMIT = "before-track-commit"
    AFTER_TRACK_COMMIT = "after-track-commit"
    BEFORE_ACK = "before-ack"
    BEFORE_LIST_COMMIT = "before-list-commit"
    AFTER_LIST_COMMIT = "after-list-commit"
    BEFORE_PUBLISH = "before-publish"
    AFTER_PUBLISH = "after-publish"


def _armed() -> tuple[str, int]:
    """The point that is set and at which of its occurrences the process dies; ("", 0) for none.

    Raises:
        ValueError: The variable names no point, or no positive count.
    """
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return "", 0
    name, _, count = wanted.partition(":")
    if int(count or 1) < 1:
        raise ValueError(f"{VARIABLE}: {count!r} is not a count")
    return FaultPoint(name).value, int(count or 1)


_point, _left = _armed()


def reach(point: FaultPoint) -> None:
    """Die here if this is the point, and the occurrence, that the environment names."""
    global _left  # noqa: PLW0603 -- a process dies once
    if point != _point:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

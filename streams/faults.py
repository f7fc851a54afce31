"""Fault points, at which a test can kill this process. Without MESS_FAULT_POINT they do nothing.

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


_point, _left = "", 0


def arm(wanted: str) -> None:
    """Have this process die at a point, as `before-track-commit:3` says; nothing for an empty text.

    Raises:
        ValueError: It names no point, or no positive count.
    """
    global _point, _left
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    if int(count or 1) < 1:
        raise ValueError(f"{VARIABLE}: {count!r} is not a count")
    _point, _left = FaultPoint(name).value, int(count or 1)


def reach(point: FaultPoint) -> None:
    """Die here if this is the point, and the occurrence, that the environment names."""
    global _left  # noqa: PLW0603 -- a process dies once
    if point != _point:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

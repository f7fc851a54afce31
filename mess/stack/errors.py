"""What can go wrong in the local stack, each as one line a user can act on."""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """The local stack cannot start or go on; the message is one line for the user."""


class ServiceFailedError(StackError):
    """A supervised process would not start, or kept dying.

    The message names the process, says how it ended and where its log is; `log_tail` holds the last lines
    of that log, if they add to the message.
    """

    def __init__(self, name: str, reason: str, log: Path, log_tail: list[str]) -> None:
        super().__init__(f"{name} {reason}; its log is {log}")
        self.name = name
        self.reason = reason
        self.log = log
        self.log_tail = log_tail

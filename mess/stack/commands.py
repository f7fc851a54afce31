"""Runs short-lived external programs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinishedCommand:
    """A finished program: its exit status, and its output and errors, in order."""

    status: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line of output, where most programs put the reason of a failure."""
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else "no reason given"


def run_command(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 120.0
) -> FinishedCommand:
    """Run a program without input and wait for its end.

    Args:
        argv: The program, by absolute path, and its arguments; no shell takes part.
        env: The whole environment, or None for this process's own.
        timeout: Seconds until it is killed.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It took too long.
    """
    done = subprocess.run(  # noqa: S603 - programs of our packages and of the PATH, arguments of our own making
        list(argv),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )
    return FinishedCommand(done.returncode, done.stdout)

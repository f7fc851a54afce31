"""Runs `mess` commands for the stack in processes of their own, which take along what they imported and read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from mess.stack.commands import FinishedCommand
from mess.stack.errors import StackError


async def run_errand(*arguments: str, env: Mapping[str, str]) -> str:
    """Run a `mess` command to its end and return what it printed; cancelled, it is killed.

    Args:
        arguments: The command and its options.
        env: The whole environment.

    Raises:
        StackError: It failed; says why in the command's own words.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mess",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        # Ctrl-C reaches the terminal's whole foreground group; this process decides what it means.
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    done = FinishedCommand(process.returncode or 0, output.decode(errors="replace").strip())
    if done.status:
        reason = next(
            (line for line in done.output.splitlines() if line.startswith("mess: ")), done.last_line
        )
        raise StackError(reason.removeprefix("mess: ").strip())
    return done.output

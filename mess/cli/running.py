"""`mess up` in the terminal."""

import asyncio
import signal
import sys
import time

import typer

from mess.cli import console
from mess.stack import datadir
from mess.stack.errors import StackError
from mess.stack.stack import LocalStack, StackOptions
from mess.stack.supervisor import describe_exit


def run_up(options: StackOptions) -> None:
    """Run the stack until a signal asks it to stop.

    Raises:
        StackError: It cannot start, or cannot be kept running.
    """
    with datadir.locked_data_directory(options.data_dir):
        asyncio.run(_Session(options).run())


class _Session:
    """One run of the stack, with its output."""

    def __init__(self, options: StackOptions) -> None:
        self._options = options
        self._started = time.monotonic()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        stack = LocalStack(self._options, self._say)
        self._take_signals(stack)
        work = asyncio.create_task(self._work(stack), name="the stack")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for a signal")
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                self._say("stopping; again to kill")
        finally:
            # Cancelled before anything is stopped: it would report a stop as a failure.
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
            await stack.stop()
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error
        self._say("stopped; the data is kept")

    def _take_signals(self, stack: LocalStack) -> None:
        def asked() -> None:
            if self._stop.is_set():
                stack.kill()
            self._stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, asked)

    async def _work(self, stack: LocalStack) -> None:
        """Start the stack, publish the demo catalogue, and run until something fails for good."""
        state = await stack.start()
        typer.echo(f"ready {state.http_url}")
        beside = [
            asyncio.create_task(self._bring_catalogue(stack), name="the demo catalogue was not published"),
            asyncio.create_task(stack.start_incipits(), name="works cannot be heard"),
        ]
        for task in beside:
            task.add_done_callback(self._tell_failure)
        try:
            await stack.wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        """Report a failed task by its name, and why it failed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._say(f"{task.get_name()}: {' '.join(str(error).split())}")

    async def _bring_catalogue(self, stack: LocalStack) -> None:
        """Run the process that publishes the demo catalogue and shows how far the lists are."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mess.cli.bringing",
            str(self._options.data_dir),
            str(self._started),
            "demo" if self._options.demo else "none",
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that this one is gone
            env=stack.environment,
            start_new_session=True,
        )
        try:
            if status := await process.wait():
                raise StackError(describe_exit(status))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _say(self, line: str) -> None:
        typer.echo(console.since(self._started, line), err=True)

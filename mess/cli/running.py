"""`mess up` in the terminal."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from mess.cli import console
from mess.stack import datadir
from mess.stack.broker import BrokerChoice
from mess.stack.demo import DemoPublisher, DemoWatcher, Progress
from mess.stack.stack import LocalStack, StackOptions
from store.status import LIST_LENGTH
from streams.freed import give_memory_back

_PLAIN_EVERY_SECONDS = 5.0


def run_up(options: StackOptions) -> None:
    """Run the stack until a signal asks it to stop.

    Raises:
        StackError: It cannot start, or cannot be kept running.
    """
    console.quiet_libraries()
    with datadir.locked_data_directory(options.data_dir):
        asyncio.run(_Session(options).run())


class _Session:
    """One run of the stack, with its output."""

    def __init__(self, options: StackOptions) -> None:
        self._options = options
        self._screen = console.err()
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
            # Each has read the whole catalogue, and this process does nothing like it again.
            task.add_done_callback(lambda _: give_memory_back())
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
        """Publish the demo catalogue unless it is there, and show progress until every track has its list."""
        began = time.monotonic()
        async with DemoWatcher(stack.state.database_url, stack.kafka) as watch:
            before = await watch.look()
            demo = await self._demo_to_publish(before, await watch.aspects())
            if demo is None and before.settled:
                self._say(f"the catalogue holds {before.tracks:,} tracks")
                return
            settled = await self._publish_and_settle(stack, watch, demo)
        self._announce(settled, time.monotonic() - began, stack.state.http_url, demo)

    async def _demo_to_publish(
        self, before: Progress, aspects: tuple[str, ...] | None
    ) -> DemoPublisher | None:
        """The demo catalogue, if it is wanted and not published yet."""
        if not self._options.demo:
            return None
        demo = await asyncio.to_thread(DemoPublisher, self._options.data_dir)
        if demo.published:
            return None
        if before.tracks >= len(demo):
            self._say(f"the catalogue holds {before.tracks:,} tracks already; the demo catalogue is left out")
            return None
        if aspects not in (None, demo.aspects):
            self._say("the catalogue has other embeddings than the demo catalogue, which is left out")
            return None
        return demo

    async def _publish_and_settle(
        self, stack: LocalStack, watch: DemoWatcher, demo: DemoPublisher | None
    ) -> Progress:
        """Publish `demo`, if there is one, and wait for the effect of everything published."""
        wanted = 0 if demo is None else len(demo)
        while True:
            if demo is not None and not demo.published:
                with self._bar("publishing the demo catalogue to track-ingest", wanted) as show:
                    await demo.publish(stack.kafka, lambda done: show(done, wanted))
                if stack.state.broker != BrokerChoice.TANSU:
                    demo.note_published()
            with self._bar("lists of neighbours", wanted) as show:
                settled = await watch.until_settled(
                    lambda seen: show(seen.full_lists, max(seen.tracks, wanted))
                )
            if demo is None or demo.published:
                return settled
            # A broker in memory may have lost messages in a restart.
            if settled.tracks >= wanted:
                demo.note_published()
                return settled
            self._say(f"only {settled.tracks:,} of {wanted:,} works arrived; publishing them again")

    def _announce(self, settled: Progress, seconds: float, url: str, demo: DemoPublisher | None) -> None:
        neighbours = f"their {LIST_LENGTH} neighbours" if settled.tracks > LIST_LENGTH else "their neighbours"
        line = f"{settled.tracks:,} works have {neighbours}, {seconds:.0f} s after ready"
        if demo is not None:
            line += f"; try: curl '{url}/recommend/{quote(demo.example, safe='')}?top_k=5'"
        self._say(line)

    def _say(self, line: str) -> None:
        self._screen.print(f"{time.monotonic() - self._started:6.1f}s  {line}", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """Yield a function that shows `done` of `total`: a bar on a terminal, else a line now and then."""
        if not self._screen.is_terminal:
            yield _PlainProgress(title, self._say)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._screen, transient=True) as bars:
            task = bars.add_task(title, total=total)
            yield lambda done, of: bars.update(task, completed=done, total=of)


class _PlainProgress:
    """Progress for output that is not a terminal: one line every few seconds."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self._title = title
        self._say = say
        self._last = float("-inf")
        self._shown = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        finished = 0 < total == done != self._shown
        if now - self._last >= _PLAIN_EVERY_SECONDS or finished:
            self._last, self._shown = now, done
            self._say(f"{self._title}: {done:,} of {total:,}")

"""`python -m mess.cli.bringing DATA_DIR BEGAN demo|none`: bring the catalogue of a local stack that has just started.

A process of `mess up`, which is small without it: publish the demo catalogue, if it is wanted and not there, and show on
standard error how far the lists are.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from mess.cli import console
from mess.demo.catalogue import CatalogueError
from mess.settings import read_settings
from mess.stack.broker import BrokerChoice
from mess.stack.datadir import published_note
from mess.stack.demo import DemoPublisher, DemoWatcher, Progress
from mess.stack.statefile import StackState, read_state
from store.errors import StoreError
from store.status import LIST_LENGTH
from streams.engine.endings import end_with_parent
from streams.errors import StreamsError
from streams.settings import KafkaSettings

_PLAIN_EVERY_SECONDS = 5.0


class _Bringing:
    """One start of a stack, from `ready` to the last list.

    Args:
        data_dir: The stack's.
        state: Where its parts are.
        kafka: How to reach its broker.
        began: When it was started, by `time.monotonic`.
        demo: Whether the demo catalogue is wanted.
    """

    def __init__(
        self, data_dir: Path, state: StackState, kafka: KafkaSettings, *, began: float, demo: bool
    ) -> None:
        self._data_dir = data_dir
        self._state = state
        self._kafka = kafka
        self._began = began
        self._demo = demo
        self._screen = console.err()

    async def run(self) -> None:
        """Publish the demo catalogue unless it is there, and show progress until every track has its list."""
        began = time.monotonic()
        async with DemoWatcher(self._state.database_url, self._kafka) as watch:
            before = await watch.look()
            demo = await self._demo_to_publish(before, await watch.aspects())
            if demo is None and before.settled:
                self.say(f"the catalogue holds {before.tracks:,} tracks")
                return
            settled = await self._publish_and_settle(watch, demo)
        self._announce(settled, time.monotonic() - began, self._state.http_url, demo)

    async def _demo_to_publish(
        self, before: Progress, aspects: tuple[str, ...] | None
    ) -> DemoPublisher | None:
        """The demo catalogue, if it is wanted and not published yet."""
        if not self._demo or published_note(self._data_dir).exists():
            return None
        demo = await asyncio.to_thread(DemoPublisher, self._data_dir)
        if before.tracks >= len(demo):
            self.say(f"the catalogue holds {before.tracks:,} tracks already; the demo catalogue is left out")
            return None
        if aspects not in (None, demo.aspects):
            self.say("the catalogue has other embeddings than the demo catalogue, which is left out")
            return None
        return demo

    async def _publish_and_settle(self, watch: DemoWatcher, demo: DemoPublisher | None) -> Progress:
        """Publish `demo`, if there is one, and wait for the effect of everything published."""
        wanted = 0 if demo is None else len(demo)
        while True:
            if demo is not None and not demo.published:
                with self._bar("publishing the demo catalogue to track-ingest", wanted) as show:
                    await demo.publish(self._kafka, lambda done: show(done, wanted))
                if self._state.broker != BrokerChoice.TANSU:
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
            self.say(f"only {settled.tracks:,} of {wanted:,} works arrived; publishing them again")

    def _announce(self, settled: Progress, seconds: float, url: str, demo: DemoPublisher | None) -> None:
        neighbours = f"their {LIST_LENGTH} neighbours" if settled.tracks > LIST_LENGTH else "their neighbours"
        line = f"{settled.tracks:,} works have {neighbours}, {seconds:.0f} s after ready"
        if demo is not None:
            line += f"; try: curl '{url}/recommend/{quote(demo.example, safe='')}?top_k=5'"
        self.say(line)

    def say(self, line: str) -> None:
        """Print a line with the time since the stack's start."""
        self._screen.print(console.since(self._began, line), markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """Yield a function that shows `done` of `total`: a bar on a terminal, else a line now and then."""
        if not self._screen.is_terminal:
            yield _PlainProgress(title, self.say)
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


def main(data_dir: Path, began: float, *, demo: bool) -> None:
    """Do it once."""
    console.quiet_libraries()
    state = read_state(data_dir)
    assert state is not None
    bringing = _Bringing(data_dir, state, read_settings(KafkaSettings), began=began, demo=demo)
    try:
        asyncio.run(bringing.run())
    except (CatalogueError, OSError, StoreError, StreamsError) as error:
        bringing.say(f"the demo catalogue was not published: {' '.join(str(error).split())}")


if __name__ == "__main__":
    end_with_parent()
    main(Path(sys.argv[1]), float(sys.argv[2]), demo=sys.argv[3] == "demo")

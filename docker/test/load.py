# ruff: noqa: INP001 -- a script that runs commands and tells what they do
"""Readers and a producer that do not pause."""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from stack import BEGAN, DIMENSION, URL, Wrong, get, in_parts, mess, require, settled, sql, until


class Load:
    """Reads without pause, and publishes tracks, until the end of a block.

    Args:
        computed: Whether to ask also for what a worker has to compute each time.
        url: Where it asks.

    Attributes:
        answers: How often which status came; 0 where there was no answer.
        bad: Time, status and body of what was not 200 among answers out of the store.
        late: Likewise among those that a worker had to compute.
        published: The tracks that were delivered, by what `mess publish` said.
    """

    BATCH = 100
    # Tracks of an earlier run on a stack that was kept have other names.
    _rounds = itertools.count(int(time.time()))

    def __init__(self, *, computed: bool = False, url: str = URL) -> None:
        self._url = url
        self.answers: collections.Counter[int] = collections.Counter()
        self.bad: list[tuple[float, int, str]] = []
        self.late: list[tuple[float, int, str]] = []
        self.published: list[str] = []
        self._stop = threading.Event()
        self._round = next(Load._rounds)
        self._tasks = [self._read, self._publish, *([self._ask] if computed else [])]

    def _note(self, path: str, wrong: list[tuple[float, int, str]]) -> None:
        status, body = get(path, url=self._url)
        self.answers[status] += 1
        if status != 200:
            wrong.append((time.monotonic() - BEGAN, status, f"{path}: {str(body)[:200]}"))

    def _read(self) -> None:
        paths = ["/recommend/bach%2Fbwv66.6?top_k=10", "/tracks/bach%2Fbwv66.6", "/tracks?limit=5"]
        for path in itertools.cycle(paths):
            if self._stop.is_set():
                return
            self._note(path, self.bad)
            time.sleep(0.02)

    def _ask(self) -> None:
        for number in itertools.count():
            if self._stop.is_set():
                return
            query = f"strategy=diverse&exclude=nothing-{self._round}-{number}"
            self._note(f"/recommend/bach%2Fbwv66.6?{query}", self.late)
            time.sleep(0.05)

    def _publish(self) -> None:
        """Batches through `mess publish`: what it says it has delivered must be there at the end."""
        while not self._stop.is_set():
            first = len(self.published)
            names = [f"load-{self._round}/{first + i}" for i in range(self.BATCH)]
            lines = "".join(json.dumps(self._event(name)) + "\n" for name in names)
            with contextlib.suppress(Wrong):  # Kafka may be away: not delivered, so sent again
                if f"{self.BATCH} published" in mess("publish", "-", given=lines):
                    self.published += names

    def _event(self, name: str) -> dict[str, Any]:
        number = int(name.split("/")[1]) + 7 * (self._round % 1000)
        vector = [((number * 31 + i * 17) % 101) / 101 - 0.5 for i in range(DIMENSION)]
        return {"track_id": name, "embedding": in_parts(vector), "metadata": {"title": name}}

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Around what happens meanwhile."""
        with concurrent.futures.ThreadPoolExecutor(len(self._tasks)) as pool:
            work = [pool.submit(task) for task in self._tasks]
            try:
                yield self
            finally:
                self._stop.set()
                for future in work:
                    future.result()

    def arrived(self, catalogue: int) -> None:
        """Raise unless every track that was delivered is in the store, and every list as brute force has it.

        Args:
            catalogue: Tracks that were there before.
        """
        until("all that was published is in the lists", lambda: settled(catalogue + len(self.published)))
        mine = f"load-{self._round}/"
        there = int(sql(f"SELECT count(*) FROM tracks WHERE starts_with(track_id, '{mine}')"))  # noqa: S608
        require(there >= len(self.published), f"{len(self.published)} delivered, {there} there")
        mess("audit", "--threshold", "1")

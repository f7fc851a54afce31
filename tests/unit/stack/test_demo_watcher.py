"""When a published catalogue has had its effect, by looks that the test sets."""

from typing import Any

import pytest

from mess.stack import demo
from mess.stack.demo import DemoWatcher, Progress
from store.errors import StoreUnavailableError
from streams.settings import KafkaSettings

pytestmark = pytest.mark.unit


class Looks(DemoWatcher):
    """Sees one thing after the other, in place of a store and a broker."""

    def __init__(self, *seen: Progress | Exception) -> None:
        super().__init__("postgresql://mess@127.0.0.1/mess", KafkaSettings(bootstrap_servers="127.0.0.1:1"))
        self.seen = list(seen)

    async def look(self) -> Progress:
        one = self.seen.pop(0)
        if isinstance(one, Exception):
            raise one
        return one


@pytest.mark.parametrize(
    ("progress", "settled"),
    [
        (Progress(3, 3, 0), True),
        (Progress(3, 2, 0), False),
        (Progress(3, 3, 1), False),
        (Progress(3, 3, None), False),
    ],
)
def test_settled_is_all_in_the_store_and_every_list_full(progress: Progress, settled: bool) -> None:
    """A broker that does not say is no proof."""
    assert progress.settled == settled


async def test_a_catalogue_is_settled_when_it_is_seen_so_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same number of tracks, and not fewer than were published; an outage between is waited for."""
    monkeypatch.setattr(demo, "POLL_SECONDS", 0.0)
    early, growing, done = Progress(1, 1, 0), Progress(2, 2, 0), Progress(3, 3, 0)
    looks = Looks(early, early, growing, done, StoreUnavailableError("no connection"), done, early)
    shown: list[Any] = []
    assert await looks.until_settled(shown.append, at_least=3) == done
    assert shown == [early, early, growing, done, done]

"""Garbage collections: what has been found alive is looked at no more, and cycles go all the same."""

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from mess import collecting

pytestmark = pytest.mark.unit


class _Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def setting_aside() -> Iterator[collecting.GarbageCollectionFreezer]:
    """As in a process of ours, until the test is over."""
    before = list(gc.callbacks)
    collecting.keep_short()
    (added,) = (callback for callback in gc.callbacks if callback not in before)
    assert isinstance(added, collecting.GarbageCollectionFreezer)
    yield added
    gc.callbacks.remove(added)
    gc.unfreeze()


def test_a_full_collection_sets_aside_what_it_leaves(
    setting_aside: collecting.GarbageCollectionFreezer,
) -> None:
    """The next one has only what came since to look at, and takes cycles among that."""
    del setting_aside
    before = gc.get_freeze_count()
    kept = [_Node() for _ in range(1_000)]
    gc.collect()
    assert gc.get_freeze_count() >= before + len(kept)
    gone = weakref.ref(_Node())
    gc.collect(1)
    gc.collect()
    assert gone() is None


def test_what_was_set_aside_is_looked_at_again_in_time(
    setting_aside: collecting.GarbageCollectionFreezer,
) -> None:
    """A cycle among what was set aside goes when everything is looked at again."""
    node = _Node()
    gone = weakref.ref(node)
    gc.collect()
    del node
    gc.collect()
    assert gone() is not None
    setting_aside.everything_at = time.monotonic() - collecting.EVERYTHING_SECONDS - 1
    gc.collect()
    assert gone() is None


def test_dead_cycles_are_bounded_by_what_the_process_has_grown(
    setting_aside: collecting.GarbageCollectionFreezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Megabytes in cycles that died after they were set aside go once memory has grown by so much, long before an hour is over."""
    alive: set[int] = set()

    class Heavy:
        def __init__(self, number: int) -> None:
            self.itself = self
            alive.add(number)
            weakref.finalize(self, alive.discard, number)

    # As a process would measure it whose every cycle holds a megabyte.
    monkeypatch.setattr(setting_aside, "_resident", lambda: len(alive) << 20)
    monkeypatch.setattr(setting_aside, "_before", 0)
    most, kept = 0, list[Heavy]()
    for number in range(200):
        kept.append(Heavy(number))
        if number % 20 == 19:
            gc.collect()  # finds them alive, and sets them aside
            kept.clear()
            most = max(most, len(alive))
    assert most <= (collecting.GROWN_BYTES >> 20) + 40


def test_a_process_that_grows_for_good_looks_at_everything_a_few_times(
    setting_aside: collecting.GarbageCollectionFreezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filling caches from nothing to ten gigabytes costs some twenty looks at everything, not one at each collection."""
    size, looks = 0, 0
    monkeypatch.setattr(setting_aside, "_resident", lambda: size)
    monkeypatch.setattr(setting_aside, "_before", 0)
    for _ in range(1_000):
        size += 10 << 20
        before = setting_aside.everything_at
        setting_aside("start", {"generation": 2})
        setting_aside("stop", {"generation": 2})
        looks += setting_aside.everything_at != before
    assert 10 < looks < 30


_COMMAND = """
import atexit, gc
from mess.collecting import collect_rarely, keep_short
usual = gc.get_threshold()
# What is registered first is called last.
atexit.register(lambda: print(gc.get_freeze_count() > 0))
collect_rarely()
print(gc.get_threshold()[0] > usual[0], gc.get_freeze_count())
if {stays}:
    keep_short()
    print(gc.get_threshold() == usual)
"""


@pytest.mark.parametrize(("stays", "said"), [(False, "True 0 True"), (True, "True 0 True True")])
def test_a_command_starts_and_ends_without_collections(stays: bool, said: str) -> None:
    """Collections are rare until a process that stays has imported everything; at the end everything is left alone."""
    program = _COMMAND.format(stays=stays)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == said.split()

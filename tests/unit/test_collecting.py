"""Garbage collections: what has been found alive is looked at no more, and cycles go all the same."""

import gc
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
def setting_aside() -> Iterator[collecting.SettingAside]:
    """As in a process of ours, until the test is over."""
    before = list(gc.callbacks)
    collecting.keep_short()
    (added,) = (callback for callback in gc.callbacks if callback not in before)
    assert isinstance(added, collecting.SettingAside)
    yield added
    gc.callbacks.remove(added)
    gc.unfreeze()


def test_a_full_collection_sets_aside_what_it_leaves(setting_aside: collecting.SettingAside) -> None:
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


def test_what_was_set_aside_is_looked_at_again_in_time(setting_aside: collecting.SettingAside) -> None:
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

"""Keys and slots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import key_index
from streams.engine.key_index import KeyIndex
from streams.engine.types import EMPTY

pytestmark = pytest.mark.unit

KEYS = np.array([-(2**63), -5, 0, *range(7, 40), 2**63 - 1], dtype=np.int64)


@given(
    st.lists(st.sets(st.integers(0, len(KEYS) - 1), max_size=8), max_size=30), st.sampled_from([1, 3, 100])
)
def test_it_is_a_dictionary_whatever_comes_and_goes(turns: list[set[int]], recent: int) -> None:
    """In each turn some keys change between there and gone; all are found as a dictionary finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "RECENT", recent)
        index, known, slot = KeyIndex(), dict[int, int](), 0
        for turn in turns:
            keys = KEYS[sorted(turn)]
            there = np.array([key in known for key in keys.tolist()], dtype=np.bool_)
            index.remove(keys[there])
            for key in keys[there].tolist():
                del known[key]
            slots = np.arange(slot, slot + int((~there).sum()), dtype=np.int32)
            slot += len(slots)
            index.add(keys[~there], slots)
            known |= dict(zip(keys[~there].tolist(), slots.tolist(), strict=True))
            assert index.find(KEYS).tolist() == [known.get(key, EMPTY) for key in KEYS.tolist()]
            assert len(index) == len(known)


def test_keys_that_repeat_are_each_found() -> None:
    """A question may name a key twice, and keys that were never there."""
    index = KeyIndex()
    index.add(np.array([5, 3], dtype=np.int64), np.array([0, 1], dtype=np.int32))
    assert index.find(np.array([3, 9, 3, 5], dtype=np.int64)).tolist() == [1, EMPTY, 1, 0]

"""Of two events of a track one is the later, however they are read."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts import EventPlace
from tests.support.track_logs import compacted, drawn_log, final_tracks, interleaved

pytestmark = pytest.mark.unit


def test_within_a_partition_the_offset_decides_and_between_partitions_time_and_then_the_partition() -> None:
    """What an event of an unknown time has, any other partition's event replaces."""
    assert EventPlace(1, 5, 10).is_after(EventPlace(1, 4, 99))
    assert EventPlace(1, 5, 11).is_after(EventPlace(2, 900, 10))
    assert EventPlace(2, 5, 10).is_after(EventPlace(1, 900, 10))
    assert not EventPlace(1, 900, 10).is_after(EventPlace(2, 5, 10))
    assert not EventPlace(1, 5, 10).is_after(EventPlace(1, 5, 10))
    assert EventPlace(0, 0, 1).is_after(EventPlace(7, 900, 0))


@given(st.integers(0, 1 << 32))
def test_the_catalogue_is_the_same_in_any_interleaving_and_after_compaction(seed: int) -> None:
    """Live, read again, and read again after compaction."""
    rng = random.Random(seed)
    log = drawn_log(rng, 30)
    wanted = final_tracks(interleaved(rng, log))
    assert final_tracks(interleaved(rng, log)) == wanted
    assert final_tracks(interleaved(rng, compacted(log))) == wanted

"""A cap that holds, by hand."""

import numpy as np
import pytest

from mess.evaluate.lists import Made
from mess.evaluate.rationing import Wishes, ration_exposure

pytestmark = pytest.mark.unit

ANGLES = np.array([0.0, 0.1, 0.2, 0.3, 0.05, 1.0])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
KEY = ("similarity", "seen")


def nearest(seed: int, without: frozenset[int]) -> list[int]:
    """The most similar track that may be had."""
    order = np.argsort(-(VECTORS @ VECTORS[seed]), kind="stable").tolist()
    return [track for track in order if track != seed and track not in without][:1]


def rationed(share: float) -> list[int]:
    """Lists of one for tracks 0 to 3."""
    seeds = np.arange(4)

    def remake(wishes: Wishes, number: int) -> Made:
        rows = [nearest(seed, wishes[KEY][seed]) if seed in wishes[KEY] else [-1] for seed in range(4)]
        return {KEY: np.array(rows)}

    start = {KEY: np.array([nearest(seed, frozenset()) for seed in range(4)])}
    return ration_exposure(start, seeds, VECTORS, share, remake)[KEY][:, 0].tolist()


def test_without_pressure_nothing_changes() -> None:
    """Track 4 is nearest to 0 and to 1, 1 or 3 to 2, 2 to 3; half of four lists allows two each."""
    assert rationed(0.5) == [nearest(seed, frozenset())[0] for seed in range(4)]


def test_a_track_stays_where_it_is_nearest_and_the_refused_take_their_next_best() -> None:
    """One list each: every track at most once, and no list and track would both rather have each other."""
    made = rationed(0.25)
    assert len(set(made)) == 4
    holder = {track: seed for seed, track in enumerate(made)}
    for seed, track in enumerate(made):
        for other in range(6):
            if other == seed or VECTORS[seed] @ VECTORS[other] <= VECTORS[seed] @ VECTORS[track]:
                continue
            # It would rather have `other`, which is taken by a seed nearer to it.
            assert VECTORS[holder[other]] @ VECTORS[other] >= VECTORS[seed] @ VECTORS[other]


def test_lists_that_were_not_asked_for_count_for_nothing() -> None:
    """Of four rows two are empty: half of two lists is one."""
    seeds = np.arange(4)
    start = {KEY: np.array([[4], [4], [-1], [-1]])}
    asked: list[int] = []

    def remake(wishes: Wishes, number: int) -> Made:
        asked.extend(wishes[KEY])
        return {KEY: np.array([[-1], [0], [-1], [-1]])}

    assert ration_exposure(start, seeds, VECTORS, 0.5, remake)[KEY][:, 0].tolist() == [4, 0, -1, -1]
    assert asked == [1]

"""A few kills over the workers of two spaces, and what the command that does hundreds makes of its options."""

from pathlib import Path

import pytest

from tests.faults.kills import Plan, plans, play
from tests.faults.test_faults import say

pytestmark = pytest.mark.faults


@pytest.mark.timeout(600)
async def test_workers_that_are_killed_again_and_again_lose_nothing(tmp_path: Path) -> None:
    """After kills at points and at any moment, and promotions, of two spaces each generation is as the log says, and each feed."""
    outcome = await play(Plan(seed=5, workers=2, kills=4, misplaced=0.3, promotions=True), tmp_path)
    say(str(outcome))
    if outcome.faults:
        say(outcome.report)
    assert outcome.faults == []
    assert outcome.kills.total() >= 4
    assert outcome.kills["promoted in default"]
    assert outcome.kills["promoted in melody"]


def test_kills_are_shared_out_over_histories_and_numbers_of_workers() -> None:
    """Each history has its own seed, the last one what is left, and numbers of workers take turns."""
    assert plans(60, [2, 3], 25, seed=7) == [Plan(7, 2, 25), Plan(8, 3, 25), Plan(9, 2, 10)]

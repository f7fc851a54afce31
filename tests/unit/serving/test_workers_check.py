"""What health says of the workers."""

import pytest

from serving.health import workers_check
from store.lives import LiveWorker, WorkersState

pytestmark = pytest.mark.unit

TWO = tuple(LiveWorker(f"worker-{number}", 60.0, (number,), {}) for number in range(2))
WELL = WorkersState(deaths=0, last_error=None, owned_ago=2.0, stalled=0.0, workers=TWO)


@pytest.mark.parametrize(
    ("state", "status", "says"),
    [
        (WELL, "ok", "2 alive"),
        (WorkersState(1, "w: KeyError: 'x'", 2.0, 29.0, TWO), "ok", "2 alive"),
        (WorkersState(0, None, None, 0.0), "unknown", "no worker has owned a partition yet"),
        (
            WorkersState(3, "w: KeyError: 'x'", 2.0, 0.0),
            "degraded",
            "workers have died 3 times in 10 minutes; w: KeyError: 'x'",
        ),
        (WorkersState(0, None, 16.0, 0.0), "degraded", "no worker has owned a partition for 16 s"),
        (WorkersState(0, None, 2.0, 31.0), "degraded", "events have waited for 31 s and none is consumed"),
    ],
)
def test_workers_that_die_own_nothing_or_do_not_get_on_are_degraded(
    state: WorkersState, status: str, says: str
) -> None:
    """Each is told in words; a single death, and one that owns nothing for a moment, are not."""
    check = workers_check(state)
    assert (check.status, check.detail) == (status, says)

"""What the engine's and the search's process have in common."""

import multiprocessing

import pytest

from streams.neighbours.piped import PipedProcess
from streams.neighbours.process import EngineProcess
from streams.neighbours.search import SearchProcess

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", [EngineProcess, SearchProcess])
async def test_a_process_that_is_told_to_stop_ends_by_itself(
    kind: type[EngineProcess | SearchProcess],
) -> None:
    """A stopped process has ended in order, not been killed, and a later call says that it was stopped."""
    made: PipedProcess = kind(4)
    await made.start()
    (process,) = (each for each in multiprocessing.active_children() if each.pid == made.pid)
    await made.stop()
    assert process.exitcode == 0
    assert made.pid is None
    with pytest.raises(made.stopped_error, match=f"the {made.name} process has been stopped"):
        await made._call("stats")

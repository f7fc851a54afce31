"""What the engine's and the search's process have in common."""

import asyncio
import multiprocessing
import os
import signal
import threading
from multiprocessing import Pipe

import numpy as np
import pytest

from streams.neighbours.piped import PipedProcess, receive, send
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


@pytest.mark.parametrize("call", ["stats", "stop"])
async def test_a_process_whose_parent_left_before_the_answer_ends_in_order(call: str) -> None:
    """The answer that nobody takes is no error: the process ends by itself, with nothing on its stderr."""
    made: PipedProcess = EngineProcess(4)
    await made.start()
    (process,) = (each for each in multiprocessing.active_children() if each.pid == made.pid)
    connection = made._connection
    assert connection is not None
    os.kill(process.pid or 0, signal.SIGSTOP)
    send(connection, (call, ()))
    connection.close()
    os.kill(process.pid or 0, signal.SIGCONT)
    await asyncio.to_thread(process.join, 10)
    assert process.exitcode == 0
    made._connection = None
    await made.stop()


def test_arrays_go_through_the_pipe_as_they_are_and_belong_to_whoever_gets_them() -> None:
    """Any shape, order and dtype, larger than the pipe holds, empty, beside other things; they can be written to."""
    ours, theirs = Pipe()
    records = np.zeros(3, dtype=[("partition", np.int32), ("time", np.float64)])
    sent = {
        "large": np.arange(1_000_000, dtype=np.int64).reshape(1_000, -1),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "part": np.arange(20)[::3],
        "empty": np.empty((0, 5), dtype=np.float32),
        "records": records,
        "names": ["a", "ü"],
    }
    sender = threading.Thread(target=send, args=(theirs, sent))
    sender.start()
    came = receive(ours)
    sender.join()
    assert came.keys() == sent.keys()
    for name, value in sent.items():
        np.testing.assert_array_equal(came[name], value)
    assert [came[name].dtype for name in ("large", "empty", "records")] == [
        np.int64,
        np.float32,
        records.dtype,
    ]
    came["large"][:] = 0
    ours.close()
    theirs.close()


def test_an_end_that_closes_in_the_middle_of_an_array_is_gone() -> None:
    """A message that is cut off is the end of the pipe, not a message."""
    ours, theirs = Pipe()
    theirs.send((b"", [1_000]))
    os.write(theirs.fileno(), b"not all of it")
    theirs.close()
    with pytest.raises(EOFError):
        receive(ours)
    ours.close()

"""What the engine's and the search's process have in common."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing import Pipe

import numpy as np
import pytest
import uvloop

from streams.engine.piped import PipedProcess
from streams.engine.process import EngineProcess
from streams.engine.search import SearchProcess
from streams.engine.wire import PendingAnswers, encode_message, receive_message, send_message

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
    os.kill(process.pid or 0, signal.SIGSTOP)
    asked = asyncio.create_task(made._call(call))
    await asyncio.sleep(0)
    assert made._answers is not None
    made._answers.close()
    for _ in range(2):  # the loop's next turns close the socket
        await asyncio.sleep(0)
    os.kill(process.pid or 0, signal.SIGCONT)
    with pytest.raises(made.stopped_error, match="it ended with status 0"):
        await asked
    assert process.exitcode == 0
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
    sender = threading.Thread(target=send_message, args=(theirs, sent))
    sender.start()
    came = receive_message(ours)
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
    head, array = encode_message(np.zeros(10_000))
    os.write(theirs.fileno(), head)
    os.write(theirs.fileno(), array[:1_000])
    theirs.close()
    with pytest.raises(EOFError):
        receive_message(ours)
    ours.close()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_stops_waiting_takes_nobody_elses_answer(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Answers belong to the calls in their order, also after one whose caller has gone, and between large ones."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(_ask_and_leave())


async def _ask_and_leave() -> None:
    search = SearchProcess(64)
    await search.start()
    try:
        keys = np.arange(2_000, dtype=np.int64)
        vectors = np.random.default_rng(3).standard_normal((2_000, 64)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await search.load(keys, [f"t{key:04d}" for key in keys.tolist()], vectors)
        gone = asyncio.create_task(search.vectors(keys))
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*(search.vectors(keys[:count]) for count in (1, 2_000, 3, 500)))
        assert gone.cancelled()
        for (found, known), count in zip(answers, (1, 2_000, 3, 500), strict=True):
            assert known.all()
            np.testing.assert_array_equal(found, vectors[:count])
    finally:
        await search.stop()


async def test_a_call_that_cannot_be_sent_takes_nobody_elses_answer() -> None:
    """What cannot be written down is refused to who asks; the calls after it have their own answers."""
    search = SearchProcess(4)
    await search.start()
    try:
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            await search._call("vectors", lambda: None)
        found, known = await search.vectors(np.arange(3, dtype=np.int64))
        assert (found.shape, known.tolist()) == ((3, 4), [False] * 3)
        assert (await search.stats()).tracks == 0
    finally:
        await search.stop()


def test_who_cannot_be_given_an_answer_hears_why() -> None:
    """An answer that cannot be read is the error of who asked, not a wait for ever."""

    async def history() -> None:
        answers, (ours, theirs) = PendingAnswers(), socket.socketpair()
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: answers, sock=ours)
        asked = asyncio.create_task(answers.ask("?"))
        await asyncio.sleep(0)
        (part,) = encode_message("an answer")
        theirs.sendall(bytes(part)[:-1] + b"?")  # no end of a pickle
        with pytest.raises(pickle.UnpicklingError):
            await asked
        answers.close()
        theirs.close()

    asyncio.run(asyncio.wait_for(history(), 10))


async def test_all_who_wait_are_told_that_a_process_is_gone() -> None:
    """Calls under way when the process is killed, and calls after that, all say that it is gone."""
    search = SearchProcess(4)
    await search.start()
    assert search.pid is not None
    os.kill(search.pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(search.stats()) for _ in range(30)]
    await asyncio.sleep(0)
    os.kill(search.pid, signal.SIGKILL)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, search.stopped_error) and "SIGKILL" in str(each) for each in told), told
    with pytest.raises(search.stopped_error, match="SIGKILL"):
        await search.stats()
    await search.stop()


async def test_a_process_that_was_never_started_says_so() -> None:
    """A call before the start is refused in plain words."""
    with pytest.raises(SearchProcess.stopped_error, match="never started"):
        await SearchProcess(4).stats()

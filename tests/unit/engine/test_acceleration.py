"""Getting the compiled loops in the background."""

import math
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streams.engine import acceleration
from streams.engine.acceleration import KernelLoader
from streams.engine.process import EngineProcess, _build
from tests.unit.engine.helpers import KeptLists, batch, oracle
from tests.unit.engine.test_exact import random_catalogue
from tests.unit.engine.test_process import _ChangedEngine

pytestmark = pytest.mark.unit


def test_what_was_compiled_before_is_loaded_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mark in place no helper process is started, and the functions come all the same."""
    acceleration.load_kernels()
    mark = acceleration._mark()
    mark.touch()
    monkeypatch.setattr(acceleration.subprocess, "Popen", None)
    loading = KernelLoader()
    loading.start()
    loading._thread.join()
    assert loading.kernels is not None


def test_a_compiler_that_fails_leaves_the_engine_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No functions, no mark, no exception in the thread."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(acceleration.sys, "executable", "/bin/false")
    loading = KernelLoader()
    loading.start()
    loading._thread.join()
    assert loading.kernels is None
    assert loading.failure == "the compiler ended with status 1"
    assert list(tmp_path.iterdir()) == []


def test_the_reason_of_a_failure_is_what_the_compiler_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cache that cannot be written the compiler itself complains, in a process of its own."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/nowhere")
    loading = KernelLoader()
    loading.start()
    loading._thread.join()
    assert "/dev/null/nowhere" in loading.failure or "no locator available" in loading.failure
    assert loading.kernels is None


def test_an_engine_without_its_loops_says_so_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is in its stats until a later attempt succeeds; it works meanwhile."""
    outcomes = iter(["no memory", ""])

    def fail_once(loading: KernelLoader) -> None:
        loading.failure = next(outcomes)
        if not loading.failure:
            loading.kernels = acceleration.load_kernels()

    monkeypatch.setattr(KernelLoader, "start", fail_once)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        engine, idle = _build(theirs, 8, 5, 8, 100, 1, False)
        engine.apply(batch(random_catalogue(3, 8), dimension=8))
        idle.called()
        idle.called()
        assert engine.stats().compile_failure == "no memory"
        idle.called()
        assert engine.stats().compile_failure == "no memory"
        idle._failed_at = -math.inf
        idle.called()
        idle.called()
        stats = engine.stats()
        assert (stats.compiled, stats.compile_failure) == (True, "")


def test_the_compiler_ends_with_the_process_that_wants_it() -> None:
    """Once the other end of its input is gone, so is the helper, whatever it was doing."""
    command = [
        sys.executable,
        "-c",
        "from streams.engine import acceleration as a; import threading; a.load = threading.Event().wait; a.fill_cache()",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as helper:
        assert helper.stdin is not None
        helper.stdin.close()
        assert helper.wait(60) == 1


def test_a_compiler_that_has_done_its_work_ends_well() -> None:
    """With the one that wants it still there, the helper ends with status 0: any other leaves the engine without loops."""
    command = [
        sys.executable,
        "-c",
        "from streams.engine import acceleration as a; import time; a.load = lambda: time.sleep(0.2); a.fill_cache()",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as helper:
        assert helper.wait(60) == 0


def test_a_small_catalogue_is_not_worth_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops are fetched when the catalogue has reached the size from which on they pay, and once."""
    begun: list[bool] = []
    monkeypatch.setattr(KernelLoader, "start", lambda _: begun.append(True))
    items = list(random_catalogue(3, 8).items())
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        engine, idle = _build(theirs, 8, 5, 8, 100, 3, False)
        engine.apply(batch(dict(items[:2]), dimension=8))
        idle.called()
        assert not begun
        engine.apply(batch(dict(items[2:]), dimension=8, first=2))
        idle.called()
        idle.called()
        assert begun == [True]


async def test_the_loops_come_while_the_engine_works() -> None:
    """A process answers from the start, takes the compiled loops when it is worth it, and the lists stay right."""
    acceleration.load_kernels()
    acceleration._mark().touch()
    engine, catalogue = EngineProcess(8, published=5, kept=8, accelerated_from=150), random_catalogue(300, 8)
    await engine.start()
    try:
        follower, deadline = KeptLists(), time.monotonic() + 120
        items = list(catalogue.items())
        await engine.apply(batch(dict(items[:150]), dimension=8))
        while not (await engine.stats()).compiled:
            assert time.monotonic() < deadline
            await engine.refill(1)
        await engine.apply(batch(dict(items[150:]), dimension=8, first=150))
        follower.take(_ChangedEngine(await engine.take_changes()))  # type: ignore[arg-type]
        assert follower.lists == oracle(catalogue, 5)
    finally:
        await engine.stop()


def test_compiled_functions_work_without_the_compilers_pages() -> None:
    """They are machine code of their own; what compiles again reads its pages again."""
    loaded = acceleration.load_kernels()
    acceleration.put_compiler_aside()
    vectors = np.eye(4, dtype=np.float32)
    both = np.array([1, 2], dtype=np.int64)
    assert loaded.similarities(vectors, both, both).tolist() == [1.0, 1.0]
    assert acceleration.load_kernels() == loaded

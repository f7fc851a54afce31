"""What the machine itself can do, measured in the same run, and how busy it is meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import psutil


def load_average() -> str:
    """The load average of the last minute, to be printed beside a figure."""
    return f"{os.getloadavg()[0]:.1f}"


def gemm_gflops(tracks: int, dimension: int, batch: int = 256, seconds: float = 2.0) -> float:
    """GFLOP/s of the product that the engine lives on: (batch, d) by (d, tracks), float32. The best of several."""
    rng = np.random.default_rng(0)
    catalogue = rng.standard_normal((tracks, dimension), dtype=np.float32)
    rows = rng.standard_normal((batch, dimension), dtype=np.float32)
    work = 2.0 * batch * tracks * dimension
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        rows @ catalogue.T
        best = max(best, work / (time.perf_counter() - start))
    return best / 1e9


def memory_bytes(pid: int, apart: Collection[int] = ()) -> int:
    """Resident memory of a process and its descendants, those in `apart` and theirs left out.

    Memory shared between processes counts once where the system tells (proportional set size).
    """
    try:
        process = psutil.Process(pid)
        usage = process.memory_full_info()
        children = process.children()
    except psutil.Error:
        return 0
    below = sum(memory_bytes(child.pid, apart) for child in children if child.pid not in apart)
    return int(getattr(usage, "pss", usage.rss)) + below


@contextmanager
def peak_memory(pids: Callable[[], Mapping[str, int]]) -> Iterator[dict[str, int]]:
    """Watch processes meanwhile; yields peak bytes by name, filled in as time goes by."""
    peaks: dict[str, int] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            # Asked each time: the engine process comes with the first track.
            named = pids()
            for name, pid in named.items():
                peaks[name] = max(peaks.get(name, 0), memory_bytes(pid, apart=set(named.values())))

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        stop.set()
        watcher.join()


def engine_pid(worker: int) -> int | None:
    """The engine process of a worker, the largest of its children."""
    try:
        children = psutil.Process(worker).children()
    except psutil.Error:
        return None
    return max(children, key=lambda child: child.memory_info().rss).pid if children else None

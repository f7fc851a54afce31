"""The compiled inner loops, got without anyone waiting for a compiler.

Numba takes half a minute to compile `kernels` and half a second to load what it compiled before. A helper process
compiles into the cache; only then does this process import them, in a thread. The cache is where `NUMBA_CACHE_DIR` says,
or beside the module.
"""

import importlib
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Longer than this and the machine has no time for it: the engine stays as it is.
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of `streams.neighbours.kernels`, which says what they do."""

    search: Callable[..., Any]
    search_near: Callable[..., Any]
    merge: Callable[..., Any]
    remove: Callable[..., Any]
    similarities: Callable[..., Any]


def load() -> Kernels:
    """The compiled functions; takes as long as the compiler does unless they are in the cache."""
    kernels = importlib.import_module("streams.neighbours.kernels")
    kernels.warm()
    return Kernels(kernels.search, kernels.search_near, kernels.merge, kernels.remove, kernels.similarities)


class Loading:
    """Gets the compiled functions in the background, once started."""

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self._thread = threading.Thread(target=self._load, name="kernels", daemon=True)
        self._compiler: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _load(self) -> None:
        # A process of its own: the compiler would hold this one's interpreter lock for many seconds.
        command = [sys.executable, "-c", "from streams.neighbours import acceleration; acceleration.load()"]
        try:
            self._compiler = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._compiler.wait(PATIENCE) == 0:
                self.kernels = load()
        except (OSError, subprocess.TimeoutExpired, ImportError):
            # Without them everything works, slower.
            self.stop()

    def stop(self) -> None:
        """End the compiler, if it still runs."""
        if self._compiler is not None and self._compiler.poll() is None:
            self._compiler.kill()

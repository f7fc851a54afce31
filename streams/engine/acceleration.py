"""The compiled inner loops, got without anyone waiting for a compiler.

Numba takes half a minute to compile `kernels` and half a second to load what it compiled before. A helper process
compiles into the cache, unless one has before; only then does this process import them, in a thread. The cache is where
`NUMBA_CACHE_DIR` says, or beside the module.
"""

import contextlib
import ctypes
import hashlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.engine.endings import end_with_parent, last_line

# The modules of compiled functions.
MODULES = ("kernels", "departing")
# Longer than this and the machine has no time for it: the engine stays as it is.
PATIENCE = 600.0
# Nobody waits for the compiler: everything else goes first.
NICENESS = 10
# See madvise(2), Linux 5.4 and later.
_MADV_PAGEOUT = 21


class CompilerFailedError(Exception):
    """The helper process that compiles did not do it."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of the modules `MODULES`, which say what they do."""

    search: Callable[..., Any]
    search_near: Callable[..., Any]
    search_among: Callable[..., Any]
    merge: Callable[..., Any]
    remove: Callable[..., Any]
    similarities: Callable[..., Any]


def load_kernels() -> Kernels:
    """The compiled functions; takes as long as the compiler does unless they are in the cache."""
    kernels, departing = (importlib.import_module(f"streams.engine.{name}") for name in MODULES)
    kernels.warm_kernels()
    departing.warm_departures()
    return Kernels(
        kernels.search,
        kernels.search_near,
        kernels.search_among,
        kernels.merge,
        departing.remove,
        kernels.similarities,
    )


def put_compiler_aside() -> None:
    """Let go of the pages of LLVM's library, 67 MB of the file: loading from the cache reads it, and nothing does afterwards.

    They are read again if they are wanted. Does nothing where the system has no way to.
    """
    with contextlib.suppress(OSError, AttributeError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            if "libllvmlite" in line:
                start, end = (int(edge, 16) for edge in line.split(maxsplit=1)[0].split("-"))
                madvise(start, end - start, _MADV_PAGEOUT)


def fill_cache() -> None:
    """Compile everything, in a process that is there for nothing else, and that ends with the one that wants it."""
    end_with_parent()
    os.nice(NICENESS)
    load_kernels()


def _mark() -> Path:
    """The file that says that these very functions are in the cache."""
    sources = [Path(__file__).with_name(f"{name}.py") for name in MODULES]
    made_of = (
        b"".join(source.read_bytes() for source in sources)
        + importlib.metadata.version("numba").encode()
        + sys.version.encode()
    )
    beside = sources[0].parent
    directory = os.environ.get("NUMBA_CACHE_DIR")
    if directory:
        # There, numba keeps what modules of another place are compiled to apart.
        made_of += os.fsencode(beside)
    place = Path(directory) if directory else beside / "__pycache__"
    return place / f"kernels-{hashlib.sha256(made_of).hexdigest()[:16]}.ready"


class KernelLoader:
    """Gets the compiled functions in the background, once started.

    Attributes:
        kernels: The functions, once they are there.
        failure: Why they will not come; empty as long as they may.
    """

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self.failure = ""
        self._thread = threading.Thread(target=self._load, name="kernels", daemon=True)
        self._compiler: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _load(self) -> None:
        try:
            mark = _mark()
            if not mark.exists():
                self._compile()
                mark.touch()
            self.kernels = load_kernels()
            put_compiler_aside()
        except Exception as error:  # noqa: BLE001 -- the thread has nobody to tell but by `failure`
            # Without them everything works, slower. (Numba raises RuntimeError where it finds no place for its cache.)
            self.stop()
            self.failure = " ".join(str(error).split()) or type(error).__name__

    def _compile(self) -> None:
        # A process of its own: the compiler would hold this one's interpreter lock for many seconds.
        command = [
            sys.executable,
            "-c",
            "from streams.engine import acceleration; acceleration.fill_cache()",
        ]
        # Into a file: a pipe that nobody reads would stop the compiler.
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
            ) as self._compiler,
        ):
            if (status := self._compiler.wait(PATIENCE)) != 0:
                raise CompilerFailedError(f"the compiler ended with status {status}{last_line(errors)}")

    def stop(self) -> None:
        """End the compiler, if it still runs."""
        if self._compiler is not None and self._compiler.poll() is None:
            self._compiler.kill()

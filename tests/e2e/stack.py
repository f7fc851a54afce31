"""A clone of the repository, the `mess` command that runs from it, and a stack that it has started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import psutil
from mess_client import MessClient

from streams.engine import acceleration

REPOSITORY = Path(__file__).parents[2]

# What the stack promises: a stop takes no longer.
STOP_SECONDS = 15.0
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Clone:
    """A clone of the repository's HEAD, whose code is what every command here runs."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "Clone":
        """Clone the repository into `directory`, which does not exist yet."""
        # Continuous integration often checks out as one user and tests as another, which git takes for an attack.
        trust = directory.with_name("gitconfig")
        trust.write_text("[safe]\n\tdirectory = *\n")
        subprocess.run(
            ["git", "clone", "--quiet", str(REPOSITORY), str(directory)],
            check=True,
            env=os.environ | {"GIT_CONFIG_GLOBAL": str(trust)},
        )
        _share_compiled(directory)
        return cls(directory)

    @property
    def environment(self) -> dict[str, str]:
        """A newcomer's environment: Kafka's jars cached as they are on this machine, and nothing configured but the map.

        A layout compiles for ten seconds of a processor; the page's stack, which looks at the map, has one.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESS_")}
        kept["MESS_MAP_LAYOUT"] = "false"
        if cache := os.environ.get("MESS_CACHE_DIR"):
            kept["MESS_CACHE_DIR"] = cache
        return kept | {"PYTHONPATH": f"{self.directory}{os.pathsep}{self.directory / 'client'}"}

    def mess(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a `mess` command in the clone to its end."""
        return self.python("-m", "mess", *arguments, stdin=stdin)

    def python(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python in the clone to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def tail(self, topic: str) -> list[dict[str, Any]]:
        """Everything in a topic, as `mess tail` prints it."""
        done = self.mess("tail", topic, "--from-beginning", "--no-follow")
        assert done.returncode == 0, done.stderr
        return [orjson.loads(line) for line in done.stdout.splitlines()]

    def additions(self) -> set[str]:
        """What stands in the clone's top directory that git did not put there."""
        command = ["git", "-C", str(self.directory), "ls-tree", "--name-only", "HEAD"]
        tracked = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return {path.name for path in self.directory.iterdir()} - {*tracked, ".git"}

    @contextmanager
    def up(self, *arguments: str) -> "Iterator[ClonedStack]":
        """Run `mess up` in a process group of its own, as a shell does, and wait until it is ready."""
        with (self.directory.parent / f"{self.directory.name}.up.log").open("a+") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "mess", "up", *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            with process:
                up = ClonedStack(self, process, errors)
                try:
                    up.wait_ready()
                    yield up
                finally:
                    up.end()
                    print(up.traces())  # noqa: T201 - pytest shows it with a failure


def _share_compiled(directory: Path) -> None:
    """Give a clone the inner loops that were compiled here: numba knows them by the age and size of their modules."""
    mark, here = acceleration._mark(), Path(acceleration.__file__).parent
    there = directory / here.relative_to(REPOSITORY)
    modules = [f"{name}.py" for name in acceleration.MODULES]
    same = all((here / module).read_bytes() == (there / module).read_bytes() for module in modules)
    if not same or not mark.exists() or mark.parent != here / "__pycache__":
        return  # it compiles its own
    for module in modules:
        shutil.copystat(here / module, there / module)
    (there / "__pycache__").mkdir()
    for compiled in (mark, *mark.parent.glob("*.nbi"), *mark.parent.glob("*.nbc")):
        shutil.copy2(compiled, there / "__pycache__")


class ClonedStack:
    """A running `mess up` on the default data directory of its clone.

    Attributes:
        client: Reads from its API, once it is ready.
    """

    client: MessClient

    def __init__(self, clone: Clone, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.clone = clone
        self.url = ""
        self.database_url = ""
        self.bootstrap_servers = ""
        self.broker = ""
        self._process = process
        self._errors = errors

    def wait_ready(self) -> None:
        """Wait for the line that says where the API is; the test's own timeout bounds it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), f"{line!r}\n{self.said()}"
        state = orjson.loads((self.clone.directory / ".mess" / "stack.json").read_bytes())
        self.url = line.split()[1]
        self.client = MessClient(self.url, trust_env=False)
        assert state["http_url"] == self.url
        self.database_url = state["database_url"]
        self.bootstrap_servers = state["bootstrap_servers"]
        self.broker = state["broker"]

    def said(self) -> str:
        """What it wrote on standard error, this run and those before on the same clone."""
        self._errors.seek(0)
        return self._errors.read()

    def traces(self) -> str:
        """What it said, and the ends of its services' logs."""
        logs = sorted((self.clone.directory / ".mess" / "logs").glob("*.log"))
        ends = [f"{log.name}\n{log.read_text(errors='replace')[-3_000:]}" for log in logs]
        return "\n\n".join([self.said(), *ends])

    def recommended(self, track_id: str, top_k: int = 50) -> list[str]:
        """The ids that are recommended for a track."""
        return self.client.recommend(track_id, top_k=top_k).track_ids

    def processes(self) -> list[psutil.Process]:
        """It and everything it has started, directly or not."""
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit status and sees to it that the stop took no longer than promised."""
        began = time.monotonic()
        os.killpg(self._process.pid, signal.SIGINT)
        status = self._process.wait(PATIENCE_SECONDS)
        took = time.monotonic() - began
        assert took < STOP_SECONDS, f"stopping took {took:.1f} s\n{self.said()}"
        return status

    def end(self) -> None:
        """Stop it if it still runs."""
        if self.url:
            self.client.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE_SECONDS)


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended. A process number used again is not taken for the old one."""

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    # The system may take a moment to clear a killed process away.
    deadline = time.monotonic() + 1
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def naming(path: Path) -> list[str]:
    """The command lines of all processes that name `path`, which tells apart whose stack they belong to."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(path) in line:
            found.append(line)
    return found


def eventually(condition: Callable[[], object], what: str, within: float = PATIENCE_SECONDS) -> None:
    """Wait until `condition` holds, looking again and again for `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"it never came true that {what}"
        time.sleep(0.1)

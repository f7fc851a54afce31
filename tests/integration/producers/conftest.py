"""A broker with the pipeline's topics, and the `mess` command against it."""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mess.cli import build_cli
from streams.settings import KafkaSettings
from tests.support.services import renewed


class Mess:
    """Runs the `mess` command in a folder of its own."""

    def __init__(self, servers: str, folder: Path) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=servers)
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MESS_")},
            "MESS_KAFKA_BOOTSTRAP_SERVERS": servers,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "mess", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command to its end, in this process, which saves a second of imports; a defect fails the test."""
        with contextlib.chdir(self.folder):
            done = self._invoke(*arguments, stdin=stdin)
        assert "Traceback" not in done.stderr, done.stderr
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def _invoke(self, *arguments: str, stdin: str = "") -> Result:
        with pytest.MonkeyPatch.context() as patched:
            for name in [name for name in os.environ if name.startswith("MESS_")]:
                patched.delenv(name)
            done = CliRunner().invoke(build_cli(), arguments, input=stdin, env=self.environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done

    def messages(self, topic: str) -> list[dict[str, Any]]:
        """Return everything on a topic, as `mess tail` prints it."""
        # A loop of its own, which must not meet the one of the tests.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            shown = pool.submit(self._invoke, "tail", topic, "--from-beginning", "--no-follow").result()
        assert shown.exit_code == 0, shown.output
        return [json.loads(line) for line in shown.stdout.splitlines()]


@pytest.fixture(scope="module", params=["kafka_broker", "tansu_broker"])
def broker(request: pytest.FixtureRequest) -> str:
    """The bootstrap servers of a broker with the pipeline's topics: the usual one, and the fallback."""
    return renewed(request.getfixturevalue(request.param)).bootstrap_servers


@pytest.fixture
def mess(broker: str, tmp_path: Path) -> Mess:
    """The `mess` command against that broker."""
    return Mess(broker, tmp_path)


@pytest.fixture
def offline(tmp_path: Path) -> Mess:
    """The `mess` command where no broker is: what it says does not depend on one."""
    return Mess("127.0.0.1:1", tmp_path)

"""The process that lays the map out."""

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit


def test_a_layout_ends_with_the_worker_that_asked_for_it() -> None:
    """A layout whose worker is gone ends, whatever it waits for: here a Postgres that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as postgres:
        postgres.settimeout(60)
        url = f"postgresql://nobody@127.0.0.1:{postgres.getsockname()[1]}/none"
        with subprocess.Popen(
            [sys.executable, "-m", "streams.maintenance.map_refresh"],
            env=os.environ | {"MESS_DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            connection, _ = postgres.accept()
            with connection:
                process.stdin.close()
                assert process.wait(60) == 1
            assert process.stderr.read() == b""

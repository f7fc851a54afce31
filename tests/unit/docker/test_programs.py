"""What runs in the image around our processes: the entry point and the health check."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKER

pytestmark = pytest.mark.unit

ENTRYPOINT = DOCKER / "bin" / "mess-entrypoint"
HEALTH = DOCKER / "bin" / "mess-health"


def enter(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the entry point."""
    return subprocess.run(
        [ENTRYPOINT, *command],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_setting_may_be_the_content_of_a_file(tmp_path: Path) -> None:
    """NAME_FILE becomes NAME, whatever is in it; the path is gone from the environment."""
    secret = tmp_path / "secret"
    secret.write_text("it's $HOME; `id`", encoding="utf-8")
    done = enter("env", PGPASSWORD_FILE=str(secret), MESS_API_PASSWORD_FILE=str(secret))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "PGPASSWORD=it's $HOME; `id`" in lines
    assert "MESS_API_PASSWORD=it's $HOME; `id`" in lines
    assert not [line for line in lines if "_FILE=" in line]


def test_passwords_that_are_read_again_stay_files(tmp_path: Path) -> None:
    """The process reads them for each connection; here they would be read once."""
    secret = tmp_path / "secret"
    secret.write_text("a password", encoding="utf-8")
    files = {f"{name}_FILE": str(secret) for name in ("MESS_DATABASE_PASSWORD", "MESS_KAFKA_SASL_PASSWORD")}
    done = enter("env", **files)
    assert {f"{name}={secret}" for name in files} <= set(done.stdout.splitlines())
    assert "a password" not in done.stdout


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    """A CA file is a path, and foreign programs have variables of their own."""
    done = enter("env", MESS_KAFKA_SSL_CAFILE="/ca.pem", SSL_CERT_FILE="/cert.pem")
    assert {"MESS_KAFKA_SSL_CAFILE=/ca.pem", "SSL_CERT_FILE=/cert.pem"} <= set(done.stdout.splitlines())


def test_a_secret_that_cannot_be_read_is_one_line() -> None:
    """And nothing is started without it."""
    done = enter("echo", "started", PGPASSWORD_FILE="/nowhere")
    assert done.returncode == 2
    assert done.stderr == "mess: PGPASSWORD_FILE names /nowhere, which cannot be read\n"
    assert done.stdout == ""


class _Site(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[tuple[str, type[_Site]]]:
    """A server whose status a test sets, and its URL."""
    handler = type("Site", (_Site,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/live", handler
        server.shutdown()
        thread.join()


def health(url: str, well: Path, restart: str = "") -> subprocess.CompletedProcess[str]:
    """Run the health check."""
    return subprocess.run(
        [sys.executable, HEALTH],
        env={"MESS_HEALTH_URL": url, "MESS_HEALTH_RESTART_SECONDS": restart, "MESS_HEALTH_NOTE": str(well)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_health_is_what_the_process_answers(site: tuple[str, type[_Site]], tmp_path: Path) -> None:
    """200 is well, anything else is not."""
    url, handler = site
    assert health(url, tmp_path / "well").returncode == 0
    handler.status = 503
    done = health(url, tmp_path / "well")
    assert done.returncode == 1
    assert done.stdout.startswith("503")


def test_a_process_that_does_not_answer_is_ill(tmp_path: Path) -> None:
    """Without a traceback."""
    done = health("http://127.0.0.1:1/live", tmp_path / "well")
    assert done.returncode == 1
    assert done.stderr == ""


def test_one_that_has_never_been_well_is_not_ended(tmp_path: Path) -> None:
    """It may still be starting."""
    done = health("http://127.0.0.1:1/live", tmp_path / "well", restart="0.1")
    assert done.returncode == 1
    assert "told to stop" not in done.stdout

"""What is taken from the lock to build the wheel."""

import re
import runpy

import pytest

from tests.unit.docker.files import DOCKER, ROOT

pytestmark = pytest.mark.unit


def test_the_wheel_is_built_by_hatchling_and_its_requirements_alone() -> None:
    """Each with its hashes, and nothing that tests need."""
    build_backend = runpy.run_path(str(DOCKER / "build_backend.py"))["build_backend"]
    taken = build_backend((ROOT / "requirements-dev.lock").read_text(encoding="utf-8"))
    names = set(re.findall(r"(?m)^([a-z0-9-]+)==", taken))
    assert {"hatchling", "packaging", "pathspec", "pluggy"} <= names
    assert not names & {"pytest", "mypy", "numpy"}
    assert all("--hash=sha256:" in block for block in re.split(r"(?m)^(?=[a-z])", taken) if "==" in block)

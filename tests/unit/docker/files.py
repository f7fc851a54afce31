"""The files of docker/, as the tests of this folder read them."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
PRODUCTION = DOCKER / "docker-compose.prod.yml"
DEVELOPMENT = DOCKER / "docker-compose.yml"
NODE = DOCKER / "docker-compose.node.yml"
MAIN = DOCKER / "docker-compose.main.yml"
DOCKERFILE = DOCKER / "Dockerfile"

Mapping = dict[str, Any]


def read_yaml(path: Path) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def services(path: Path) -> dict[str, Mapping]:
    """The services of a compose file by name, anchors and merges resolved."""
    found: dict[str, Mapping] = read_yaml(path)["services"]
    return found


def shell_scripts() -> list[Path]:
    """Every shell script, by its first line, and what they source."""
    return sorted(
        path
        for path in DOCKER.rglob("*")
        if path.is_file()
        and (path.suffix == ".sh" or path.read_bytes()[:20].split(b"\n")[0] in (b"#!/bin/sh", b"#!/bin/bash"))
    )

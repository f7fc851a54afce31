"""The image is made as it is to be."""

import re

import pytest

from tests.unit.docker.files import DOCKER, DOCKERFILE, ROOT

pytestmark = pytest.mark.unit

TEXT = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8")))


def stages() -> dict[str, list[str]]:
    """The instructions of each stage by its name."""
    found: dict[str, list[str]] = {}
    for line in filter(None, TEXT.splitlines()):
        if matched := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            found[matched[1]] = []
        elif found:
            found[next(reversed(found))].append(line.strip())
    return found


def test_there_is_a_target_for_production_and_one_for_development() -> None:
    """Both by name."""
    assert {"production", "development"} <= set(stages())


@pytest.mark.parametrize("target", ["production", "development"])
def test_a_target_runs_as_its_own_user(target: str) -> None:
    """Never as root, and with a health check of its own."""
    instructions = stages()[target]
    assert [line for line in instructions if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK ") for line in instructions)
    assert instructions.index("USER 10001:10001") > max(
        index for index, line in enumerate(instructions) if line.startswith(("RUN ", "COPY "))
    )


def test_every_package_is_pinned_and_checked() -> None:
    """Whatever pip installs from an index is held against hashes; what is not comes from the build itself."""
    commands = [part for part in re.split(r";|&&", TEXT) if re.search(r"pip (install|wheel)\b", part)]
    assert commands
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command


def test_no_layer_keeps_an_index_or_a_certificate() -> None:
    """They come as secrets of the build."""
    assert not re.search(r"--(index-url|extra-index-url|trusted-host|proxy)", TEXT)
    assert not re.search(r"(?m)^(ARG|ENV) .*(PIP_|PROXY|proxy|TOKEN|PASSWORD)", TEXT)


def test_the_base_is_an_argument_with_a_version() -> None:
    """A base built by oneself can stand in, and the default names its version."""
    assert re.search(r"(?m)^ARG PYTHON_IMAGE=python:3\.\d+-slim-\w+$", TEXT)
    assert "FROM ${PYTHON_IMAGE} AS base" in TEXT


def test_the_image_says_what_it_is() -> None:
    """By the labels of the Open Containers Initiative."""
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{label}=" in TEXT


def test_the_context_holds_nothing_by_accident() -> None:
    """Everything is left out but what is named, and what could be secret is left out again."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert all(rule.startswith(("!", "**/")) for rule in rules[1:])
    assert "**/.env.production" in rules[-4:]
    assert "**/secrets" in rules[-4:]
    for source in re.findall(r"(?m)^COPY (?!--)(\S+) ", TEXT):
        top = source.rstrip("/")
        assert (
            any(top == rule[1:] or top.startswith(f"{rule[1:]}/") for rule in rules) or top == "docker/bin"
        ), top


def test_secrets_are_never_committed() -> None:
    """Git leaves out the settings of production and the secrets written from them."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".env.production" in ignored
    assert "docker/secrets/" in ignored
    assert (DOCKER / ".env.production.example").exists()

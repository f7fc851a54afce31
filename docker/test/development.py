# ruff: noqa: INP001 -- a script that runs commands and tells what they do
"""Step: the development file from nothing, without the production stack beside it."""

import os
import time

from stack import ENV_FILE, URL, compose, get, measured, note_memory, require, run, say, until

PROJECT = "mess-test-development"


def _compose(*arguments: str) -> str:
    """Docker compose on the development file, on ports of its own."""
    # Of the production settings: which images, and where the API listens.
    files = ["docker/docker-compose.yml", *filter(None, os.environ.get("MESS_COMPOSE_FILES", "").split(":"))]
    options = [part for file in files if "sasl" not in file for part in ("--file", file)]
    ports = (
        "MESS_KAFKA_PORT=19092",
        "MESS_POSTGRES_PORT=15432",
        "MESS_PROMETHEUS_PORT=19090",
        "COMPOSE_PROFILES=",
    )
    command = ("docker", "compose", "-p", PROJECT, "--env-file", str(ENV_FILE), *options, *arguments)
    return run("env", "-u", "MESS_IMAGE", *ports, *command)


def develop() -> None:
    """`up` alone brings the demo; a change of the sources restarts what runs; the unit tests run inside."""
    compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
    began = time.monotonic()
    build = "docker build -q -f docker/Dockerfile --target development -t mess-ai:development"
    run("sh", "-c", f"DOCKER_BUILDKIT=1 {build} {os.environ.get('MESS_BUILD_OPTIONS', '')} .")
    measured["development image built, seconds"] = round(time.monotonic() - began, 1)
    try:
        began = time.monotonic()
        _compose("up", "--detach")
        until("the API is ready", lambda: get("/health/ready")[0] == 200)
        measured["development: up to ready, seconds"] = round(time.monotonic() - began, 1)
        until("the demo is served", _demo_is_served, 600)
        measured["development: up to the demo served, seconds"] = round(time.monotonic() - began, 1)
        note_memory("of development, with the demo", _compose("ps", "--quiet").split())
        said = _compose("run", "--rm", "-T", "--no-deps", "test")
        require(" passed" in said and " failed" not in said, said[-3000:])
        say(f"development: {said.strip().splitlines()[-1]}")
    finally:
        _compose("--profile", "*", "down", "--volumes", "--timeout", "5")
    say(
        f"development: ready {measured['development: up to ready, seconds']} s after `up`, the demo"
        f" {measured['development: up to the demo served, seconds']} s at {URL}"
    )


def _demo_is_served() -> bool:
    """Whether the job that publishes it has ended well: it waits for every list."""
    state = _compose("ps", "--all", "--format", "{{.State}} {{.ExitCode}}", "demo").strip()
    return state == "exited 0"

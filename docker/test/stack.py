# ruff: noqa: INP001, T201, S603, S310 -- a script that runs commands and tells what they do
"""The stack that is tried: its commands, its API, its database, and what was measured of it."""

import json
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRATCH = Path(os.environ["MESS_TEST_SCRATCH"])
ENV_FILE = Path(os.environ["MESS_ENV_FILE"])
PORT = re.search(r"(?m)^MESS_API_PORT=(\d+)", ENV_FILE.read_text())[1]  # type: ignore[index]
URL = f"http://127.0.0.1:{PORT}"
# Through Caddy.
PUBLIC = "https://localhost"
DEMO_TRACKS = 14_765
DIMENSION = 253
# The aspects of the demo's embeddings and their sizes, which every other track of its catalogue must have.
ASPECTS = {"harmony": 28, "melody": 128, "rhythm": 62, "texture": 35}
# Caddy signs its own for localhost.
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE
BEGAN = time.monotonic()
measured: dict[str, Any] = {}


class Wrong(Exception):  # noqa: N818 - what a step says when it fails
    """Something is not as it has to be."""


def say(line: str) -> None:
    """A line of the transcript."""
    print(f"{time.monotonic() - BEGAN:7.1f}s  {line}", flush=True)


def require(condition: object, what: str) -> None:
    """Raise unless it holds."""
    if not condition:
        raise Wrong(what)


def run(*command: str, given: str | None = None, fails: bool = False) -> str:
    """Run a command and return all it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=given,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if (done.returncode != 0) != fails:
        raise Wrong(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def compose(*arguments: str, given: str | None = None) -> str:
    """Docker compose on the production file."""
    return run(*_compose(), *arguments, given=given)


def _compose() -> list[str]:
    files = [
        "docker/docker-compose.prod.yml",
        *filter(None, os.environ.get("MESS_COMPOSE_FILES", "").split(":")),
    ]
    options = [part for file in files for part in ("--file", file)]
    return ["docker", "compose", "--env-file", str(ENV_FILE), *options]


def mess(*arguments: str, given: str = "") -> str:
    """The mess command inside."""
    return compose("run", "--rm", "-T", "--no-deps", "mess", *arguments, given=given)


def get(path: str, timeout: float = 10, url: str = URL, **headers: str) -> tuple[int, Any]:
    """Status and body of a request; 0 where the connection failed. Of TLS any certificate will do."""
    request = urllib.request.Request(
        url + path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=ANY_CERTIFICATE) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def until(what: str, holds: Callable[[], object], patience: float = 300) -> float:
    """Wait until something holds; returns the seconds it took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > patience:
            raise Wrong(f"not after {patience:.0f} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def sql(statement: str) -> str:
    """What a query says, as text."""
    return compose(
        "exec", "-T", "postgres", "psql", "-XqtA", "-U", "postgres", "-d", "mess", "-c", statement
    ).strip()


def settled(at_least: int) -> bool:
    """Whether all that was published is in the lists."""
    status, body = get("/health/detailed")
    if status != 200:
        return False
    checks = body["checks"]
    return bool(
        checks["consumer_lag"].get("lag") == 0
        and checks["catalogue"]["tracks"] >= at_least
        and int(sql("SELECT count(*) FROM tracks")) >= at_least
        and sql(
            "SELECT bool_and(a.absorbed_offset >= i.consumed_offset) FROM absorbed_offsets a "
            "JOIN ingest_partitions i ON i.partition = a.source_partition"
        )
        == "t"
        and sql("SELECT count(*) FROM neighbour_lists WHERE cardinality(neighbours) = 50")
        == sql("SELECT count(*) FROM tracks")
    )


def digest() -> tuple[str, str]:
    """Tracks and lists as two sums, without offsets and times: those are another log's after a restore."""
    tracks = sql(
        "SELECT count(*) || ' ' || md5(string_agg(track_id || md5(embedding), ',' ORDER BY track_id)) FROM tracks"
    )
    lists = sql(
        "SELECT count(*) || ' ' || md5(string_agg(key || neighbours::text || scores::text, ',' ORDER BY key)) FROM neighbour_lists"
    )
    return tracks, lists


def container(service: str) -> str:
    """The id of one container of a service."""
    return compose("ps", "--quiet", service).split()[0]


def healthy(service: str) -> bool:
    """Whether Docker calls all containers of a service healthy."""
    ids = compose("ps", "--quiet", service).split()
    states = run("docker", "inspect", "--format", "{{.State.Health.Status}}", *ids).split() if ids else []
    return bool(states) and set(states) == {"healthy"}


def note_memory(when: str, containers: list[str] | None = None) -> None:
    """Memory of each container, of the production stack if none are named, beside its limit."""
    shown = "{{.Name}} {{.MemUsage}}"
    named = containers or compose("ps", "--quiet").split()
    lines = run("docker", "stats", "--no-stream", "--format", shown, *named).splitlines()
    found = {
        line.split()[0].rsplit("-", 1)[0].rsplit("-", 1)[1]
        + "-"
        + line.split()[0].rsplit("-", 1)[1]: " ".join(line.split()[1:])
        for line in lines
    }
    measured[f"memory {when}"] = found
    say(f"memory {when}: " + ", ".join(f"{name} {use}" for name, use in sorted(found.items())))


def setting(name: str, value: str) -> None:
    """A further line of the settings: the last one of a name counts."""
    with ENV_FILE.open("a") as settings:
        settings.write(f"{name}={value}\n")


def logged(service: str, what: str, lines: int = 2_000) -> str:
    """The last line of a service's log with something in it; empty without."""
    found = [
        line
        for line in compose("logs", "--no-log-prefix", "--tail", str(lines), service).splitlines()
        if what in line
    ]
    return found[-1] if found else ""


def in_parts(vector: Any) -> dict[str, Any]:
    """A vector of DIMENSION components as an embedding of the demo's aspects."""
    parts, start = {}, 0
    for name, size in ASPECTS.items():
        parts[name] = vector[start : start + size]
        start += size
    return parts


def publish_one(name: str, **more: Any) -> None:
    """A new track, until its list is served."""
    line = (
        json.dumps({"track_id": name, "embedding": in_parts([1.0] * DIMENSION), "metadata": {}, **more})
        + "\n"
    )
    mess("publish", "-", given=line)
    path = f"/recommend/{urllib.parse.quote(name, safe='')}?top_k=5"
    until(f"{name} is served", lambda: get(path)[0] == 200)


def from_prometheus(path: str) -> str:
    """What Prometheus answers."""
    return compose("exec", "-T", "prometheus", "wget", "-qO-", f"http://127.0.0.1:9090/api/v1/{path}")

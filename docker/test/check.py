# ruff: noqa: INP001, T201, S603, S607, S310 -- a script that runs commands and tells what they do
"""What `run.sh` has prepared, tried: each step is a function, and the first that finds something wrong ends it.

Prints a transcript with seconds, and at the end a line of JSON with what was measured.
"""

import collections
import concurrent.futures
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRATCH = Path(os.environ["MESS_TEST_SCRATCH"])
ENV_FILE = Path(os.environ["MESS_ENV_FILE"])
PORT = re.search(r"(?m)^MESS_API_PORT=(\d+)", ENV_FILE.read_text())[1]  # type: ignore[index]
URL = f"http://127.0.0.1:{PORT}"
DEMO_TRACKS = 14_765
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
    files = [
        "docker/docker-compose.prod.yml",
        *filter(None, os.environ.get("MESS_COMPOSE_FILES", "").split(":")),
    ]
    options = [part for file in files for part in ("--file", file)]
    return run("docker", "compose", "--env-file", str(ENV_FILE), *options, *arguments, given=given)


def mess(*arguments: str, given: str = "") -> str:
    """The mess command inside."""
    return compose("run", "--rm", "-T", "--no-deps", "mess", *arguments, given=given)


def get(path: str, timeout: float = 10) -> tuple[int, Any]:
    """Status and body of a request; 0 where the connection failed."""
    try:
        with urllib.request.urlopen(URL + path, timeout=timeout) as reply:
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


def note_memory(when: str) -> None:
    """Memory of each container, beside its limit."""
    lines = run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
    found = {re.sub(r"^mess-test-|-\d+$", "", line.split()[0]): " ".join(line.split()[1:]) for line in lines}
    measured[f"memory {when}"] = found
    say(f"memory {when}: " + ", ".join(f"{name} {use}" for name, use in sorted(found.items())))


class Load:
    """Reads without pause, and publishes tracks, until the end of a block."""

    def __init__(self) -> None:
        self.answers: collections.Counter[int] = collections.Counter()
        self.bad: list[tuple[float, int, str]] = []
        self.published: list[str] = []
        self._stop = threading.Event()

    def _read(self) -> None:
        paths = ["/recommend/bach%2Fbwv66.6?top_k=10", "/tracks/bach%2Fbwv66.6", "/tracks?limit=5"]
        number = 0
        while not self._stop.is_set():
            number += 1
            status, body = get(paths[number % len(paths)])
            self.answers[status] += 1
            if status != 200:
                self.bad.append((time.monotonic() - BEGAN, status, str(body)[:200]))
            time.sleep(0.02)

    def _publish(self) -> None:
        """Batches through `mess publish`: what it says it has delivered must be there at the end."""
        while not self._stop.is_set():
            names = [f"load/{len(self.published) + i}" for i in range(50)]
            lines = "".join(json.dumps(self._event(name)) + "\n" for name in names)
            with contextlib.suppress(Wrong):  # Kafka may be away: not delivered, so sent again
                if "50 published" in mess("publish", "-", given=lines):
                    self.published += names

    def _event(self, name: str) -> dict[str, Any]:
        number = int(name.split("/")[1])
        vector = [((number * 31 + i * 17) % 101) / 101 - 0.5 for i in range(253)]
        return {"track_id": name, "embedding": vector, "metadata": {"title": name}}

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Around what happens meanwhile."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            work = [pool.submit(self._read), pool.submit(self._publish)]
            try:
                yield self
            finally:
                self._stop.set()
                for future in work:
                    future.result()


def refuse_defaults() -> None:
    """The example's settings are refused with the list of what to set."""
    example = SCRATCH / "example"
    example.write_bytes((ROOT / "docker/.env.production.example").read_bytes())
    example.chmod(0o600)
    os.environ["MESS_ENV_FILE"] = str(example)
    said = run("docker/ec2/deploy.sh", fails=True)
    os.environ["MESS_ENV_FILE"] = str(ENV_FILE)
    for name in ("POSTGRES", "OWNER", "API", "GRAFANA"):
        require(f"MESS_{name}_PASSWORD: is a default" in said, said)
    say("settings with default secrets are refused")


def deploy() -> None:
    """From nothing to ready, and a second run that changes nothing."""
    began = time.monotonic()
    said = run("docker/ec2/deploy.sh")
    measured["deploy, seconds with the build"] = round(time.monotonic() - began, 1)
    require(f"API        {URL}/" in said, said)
    compose("down", "--volumes", "--timeout", "10")
    image = (SCRATCH / "state/current").read_text().strip()
    os.environ["MESS_IMAGE"] = image
    measured["image, MB"] = round(
        int(run("docker", "image", "inspect", "--format", "{{.Size}}", image)) / 1e6
    )
    began = time.monotonic()
    compose("up", "--detach")
    until("the API is ready", lambda: get("/health/ready")[0] == 200)
    measured["up to ready, seconds"] = round(time.monotonic() - began, 1)
    ids = compose("ps", "--quiet")
    began = time.monotonic()
    run("docker/ec2/deploy.sh")
    measured["deploy again, seconds"] = round(time.monotonic() - began, 1)
    require(compose("ps", "--quiet") == ids, "a deployment of the same version replaced containers")
    say(f"ready {measured['up to ready, seconds']} s after `up`; image {measured['image, MB']} MB")


def refuse_second() -> None:
    """While one holds the lock, another is told who."""
    lock = os.environ["MESS_LOCK_FILE"]
    with subprocess.Popen(["flock", "--close", lock, "sleep", "60"]) as holder:
        time.sleep(1)
        said = run("docker/ec2/deploy.sh", fails=True)
        holder.terminate()
    until(
        "the lock is free",
        lambda: subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0,
        90,
    )
    require("another run holds" in said, said)
    say("a second deployment is refused while one runs")


def publish_demo() -> None:
    """The demo catalogue, until every list is served."""
    began = time.monotonic()
    said = mess("demo", "--wait")
    require(f"{DEMO_TRACKS:,} works have their neighbours" in said, said)
    measured["demo published and served, seconds"] = round(time.monotonic() - began, 1)
    status, body = get("/recommend/bach%2Fbwv66.6?top_k=3")
    require(status == 200 and len(body["recommendations"]) == 3, str(body))
    say(f"demo served after {measured['demo published and served, seconds']} s")
    note_memory("with the demo")


def largest(service: str) -> str:
    """The process of a container that holds the most memory: what the kernel ends when there is none left."""
    lines = run("docker", "top", container(service), "-eo", "pid,rss").splitlines()[1:]
    return max((line.split() for line in lines), key=lambda fields: int(fields[1]))[0]


def kill(service: str, load: Load, *, for_memory: bool = False) -> dict[str, Any]:
    """Kill a service's container from outside, wait until it is well again, and tell what readers saw.

    With `for_memory` only its largest process is killed, as the kernel does: the others replace it, or end, too.
    """
    since = len(load.bad)
    pid, restarts = run(
        "docker", "inspect", "--format", "{{.State.Pid}} {{.RestartCount}}", container(service)
    ).split()

    def restarted() -> bool:
        return (
            run("docker", "inspect", "--format", "{{.RestartCount}}", container(service)).strip() != restarts
        )

    # Not `docker kill`: that counts as a wish, after which nothing is restarted.
    run("kill", "-9", largest(service) if for_memory else pid)
    began = time.monotonic()
    if not for_memory:
        until(f"{service} is started again", restarted)
    until(f"{service} is healthy again", lambda: healthy(service))
    until("reads are answered again", lambda: get("/health/ready")[0] == 200)
    seconds = round(time.monotonic() - began, 1)
    time.sleep(3)
    bad = collections.Counter(status for _, status, _ in load.bad[since:])
    what = "largest process of the " if for_memory else ""
    say(
        f"{what}{service} killed: healthy after {seconds} s; answers that were not 200: {dict(bad) or 'none'}"
    )
    if service in {"worker", "kafka", "prometheus"}:
        require(not bad, f"reads failed while {service} was away: {load.bad[since:][:3]}")
    return {"seconds": seconds, "not 200": dict(bad)}


def kill_each() -> None:
    """Every service is killed under load, and comes back by itself; nothing is lost."""
    with Load().running() as load:
        until("something is published", lambda: load.published)
        kills: dict[str, Any] = {
            service: kill(service, load) for service in ("worker", "api", "postgres", "kafka", "prometheus")
        }
        kills["worker, out of memory"] = kill("worker", load, for_memory=True)
        count = len(load.published)
        until("it publishes again", lambda: len(load.published) > count)
    measured["kills"] = kills | {"reads": dict(load.answers), "published": len(load.published)}
    until("all that was published is in the lists", lambda: settled(DEMO_TRACKS + len(load.published)))
    there = int(sql("SELECT count(*) FROM tracks WHERE track_id LIKE 'load/%'"))
    require(there >= len(load.published), f"{len(load.published)} delivered, {there} there")
    mess("audit", "--threshold", "1")
    say(f"{len(load.published)} events delivered under kills, none lost; every list equals brute force")


def restart_under_load() -> None:
    """A graceful restart of the worker is not noticed by readers."""
    with Load().running() as load:
        began = time.monotonic()
        compose("restart", "worker")
        measured["worker restart, seconds"] = round(time.monotonic() - began, 1)
        until("the worker is healthy", lambda: healthy("worker"))
        time.sleep(2)
    require(not load.bad, f"reads failed during a restart: {load.bad[:3]}")
    code = run(
        "docker", "inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", container("worker")
    )
    require(code.split() == ["0", "false"], code)
    say(
        f"worker restarted in {measured['worker restart, seconds']} s, {sum(load.answers.values())} reads, all 200"
    )


def scale() -> None:
    """Two workers, and Prometheus sees both."""
    compose("up", "--detach", "--no-recreate", "--scale", "worker=2")
    until(
        "both workers are healthy",
        lambda: healthy("worker") and len(compose("ps", "--quiet", "worker").split()) == 2,
    )
    query = (
        "exec",
        "-T",
        "prometheus",
        "wget",
        "-qO-",
        'http://127.0.0.1:9090/api/v1/query?query=count(up{job="worker"}==1)',
    )
    until("Prometheus scrapes both", lambda: '"2"' in compose(*query), 60)
    note_memory("with two workers")
    compose("up", "--detach", "--no-recreate", "--scale", "worker=1")
    rules = json.loads(
        compose("exec", "-T", "prometheus", "wget", "-qO-", "http://127.0.0.1:9090/api/v1/rules")
    )
    unwell = [
        rule["name"]
        for group in rules["data"]["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    ]
    require(not unwell, f"rules that cannot be evaluated: {unwell}")
    say("two workers, both scraped; every alert rule is evaluated")


def publish_one(name: str) -> None:
    """A new track, until its list is served."""
    line = json.dumps({"track_id": name, "embedding": [1.0] * 253, "metadata": {}}) + "\n"
    mess("publish", "-", given=line)
    path = f"/recommend/{urllib.parse.quote(name, safe='')}?top_k=5"
    until(f"{name} is served", lambda: get(path)[0] == 200)


def back_up_and_restore() -> None:
    """A backup, and three restores into an empty stack that must equal what was."""
    until("the lists are settled", lambda: settled(DEMO_TRACKS))
    before = digest()
    began = time.monotonic()
    run("docker/ec2/backup.sh", str(SCRATCH / "backups"))
    measured["backup, seconds"] = round(time.monotonic() - began, 1)
    [backup] = (SCRATCH / "backups").glob("mess-*")
    measured["backup, MB"] = round(sum(file.stat().st_size for file in backup.iterdir()) / 1e6, 1)
    require(
        "not empty" in run("docker/ec2/restore.sh", "--from", "topics", str(backup), fails=True),
        "restored into a full stack",
    )
    for source in ("postgres", "topics", "both"):
        compose("down", "--volumes", "--timeout", "10")
        began = time.monotonic()
        run("docker/ec2/restore.sh", "--from", source, str(backup))
        if source == "postgres":
            require(digest() == before, "the restored database differs")
        else:
            until("the lists are settled", lambda: settled(int(before[0].split()[0])), 600)
        measured[f"restore from {source}, seconds"] = round(time.monotonic() - began, 1)
        require(digest() == before, f"restored from {source}: {digest()} is not {before}")
        publish_one(f"after/{source}")
        say(
            f"restored from {source} in {measured[f'restore from {source}, seconds']} s: tracks and lists are the same"
        )


def roll_back() -> None:
    """A version that never gets ready is replaced by the one before it."""
    good = os.environ.pop("MESS_IMAGE")
    broken = SCRATCH / "broken"
    broken.mkdir()
    (broken / "Dockerfile").write_text(
        f'FROM {good}\nENTRYPOINT ["sh", "-c", "case \\"$*\\" in *migrate*) exec mess-entrypoint \\"$@\\";; esac; exit 3", "-"]\n'
    )
    subprocess.run(
        ["docker", "build", "-q", "-t", "mess-ai:broken", str(broken)],
        check=True,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        stdout=subprocess.DEVNULL,
    )
    os.environ |= {"MESS_IMAGE": "mess-ai:broken", "MESS_READY_SECONDS": "60"}
    said = run("docker/ec2/deploy.sh", fails=True)
    require(f"{good} runs again" in said, said)
    require(get("/health/ready")[0] == 200, "not ready after going back")
    os.environ["MESS_IMAGE"] = good
    say("a broken version was rolled back")


def ask_for_passwords() -> None:
    """With SASL on the stack's own Kafka everything goes on, and who has no password is refused."""
    with ENV_FILE.open("a") as settings:
        settings.write("MESS_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT\nMESS_KAFKA_SASL_USERNAME=mess\n")
        settings.write("MESS_KAFKA_PASSWORD=0f9e8d7c6b5a49382716\n")
    files = os.environ.get("MESS_COMPOSE_FILES", "")
    os.environ["MESS_COMPOSE_FILES"] = f"{files}:{ROOT}/docker/docker-compose.sasl.yml"
    run("docker/ec2/deploy.sh")
    publish_one("after/sasl")
    try:
        plain = "MESS_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"
        said = compose("run", "--rm", "-T", "--no-deps", "-e", plain, "mess", "topics", "check")
    except Wrong:
        say("with SASL a client without a password is refused, the others go on")
    else:
        raise Wrong(f"a client without a password was let in: {said}")


STEPS = (
    refuse_defaults,
    deploy,
    refuse_second,
    publish_demo,
    kill_each,
    restart_under_load,
    scale,
    back_up_and_restore,
    roll_back,
    ask_for_passwords,
)


def main() -> int:
    """All steps, or those named."""
    wanted = sys.argv[1:]
    for step in STEPS:
        if wanted and step.__name__ not in wanted:
            continue
        try:
            step()
        except Wrong as error:
            say(f"{step.__name__}: {error}")
            print(compose("ps", "--all"), flush=True)
            print(compose("logs", "--tail", "15", "setup", "worker", "api"), flush=True)
            return 1
    say("all steps passed")
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())

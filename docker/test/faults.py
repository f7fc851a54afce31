# ruff: noqa: INP001 -- a script that runs commands and tells what they do
"""Steps: services are killed, restarted, starved and replaced while readers read and events come."""

import collections
import json
import time
from pathlib import Path
from typing import Any

from load import Load
from stack import (
    PUBLIC,
    compose,
    container,
    from_prometheus,
    get,
    healthy,
    logged,
    measured,
    note_memory,
    require,
    run,
    say,
    setting,
    sql,
    until,
)

# What readers may see of a service that is away: 0 is a connection that its process no longer takes, 503 what Postgres
# alone could have answered. Without a worker, Kafka or Prometheus nothing stored may fail.
ALLOWED = {"api": {0}, "postgres": {503}}


def tracks() -> int:
    """How many there are."""
    return int(sql("SELECT count(*) FROM tracks"))


def largest_spawned() -> str:
    """The worker's process besides its main one that holds the most memory: the engine's, search's, or its index's."""
    lines = run("docker", "top", container("worker"), "-eo", "pid,rss,args").splitlines()[1:]
    spawned = [line.split() for line in lines if "multiprocessing.spawn" in line]
    return max(spawned, key=lambda fields: int(fields[1]))[0]


def inspect(service: str, what: str) -> str:
    """A field of a service's container."""
    return run("docker", "inspect", "--format", "{{" + what + "}}", container(service)).strip()


def stopped(service: str) -> str:
    """The id of a container that does not run."""
    return compose("ps", "--all", "--quiet", service).split()[0]


def recovered(service: str, what: str, load: Load, since: int, began: float) -> dict[str, Any]:
    """Wait until a service is well again, and tell what readers saw; raises if that was more than may be."""
    until(f"{service} is healthy again", lambda: healthy(service))
    until("reads are answered again", lambda: get("/health/ready")[0] == 200)
    seconds = round(time.monotonic() - began, 1)
    time.sleep(3)
    bad = collections.Counter(status for _, status, _ in load.bad[since:])
    say(f"{service} {what}: healthy after {seconds} s; answers that were not 200: {dict(bad) or 'none'}")
    allowed = ALLOWED.get(service, set())
    require(set(bad) <= allowed, f"{service} {what}, and readers saw {load.bad[since:][:3]}")
    return {"seconds": seconds, "not 200": dict(bad)}


def kill(service: str, load: Load) -> dict[str, Any]:
    """Kill a service's first process from outside, and wait until it is well again."""
    since = len(load.bad)
    restarts = inspect(service, ".RestartCount")
    # Not `docker kill`: that counts as a wish, after which nothing is restarted.
    run("kill", "-9", inspect(service, ".State.Pid"))
    began = time.monotonic()
    until(f"{service} is started again", lambda: inspect(service, ".RestartCount") != restarts)
    return recovered(service, "killed", load, since, began)


def starve(load: Load) -> dict[str, Any]:
    """The worker's container has no memory left: the kernel ends a process of it, here not the main one."""
    since, victim, worker = len(load.bad), largest_spawned(), container("worker")
    run("docker", "update", "--memory", "1g", "--memory-swap", "1g", worker)
    # What takes the memory would be the largest: the kernel is told to begin with another.
    run("sh", "-c", f"echo 1000 >/proc/{victim}/oom_score_adj")
    hog = "import time\nheld = []\nfor _ in range(60):\n    held.append(b'x' * (16 << 20))\n    time.sleep(0.05)\n"
    began, clock = time.monotonic(), int(time.time())
    run("sh", "-c", '"$@" || true', "-", "docker", "exec", worker, "timeout", "8", "python3", "-c", hog)
    until("the kernel ends the process", lambda: not Path(f"/proc/{victim}/cmdline").exists(), 10)
    found = recovered("worker", "without memory, a process ended by the kernel", load, since, began)
    run("docker", "update", "--memory", "4g", "--memory-swap", "4g", worker)
    asked = ("--since", str(clock), "--until", "0s", "--filter", f"container={worker}")
    shown = "{{.Action}} {{.Actor.Attributes.exitCode}}"
    events = run(
        "docker", "events", *asked, "--format", shown, "--filter", "event=oom", "--filter", "event=die"
    )
    seen = collections.Counter(line.replace("<no value>", "").strip() for line in events.splitlines())
    require(seen["oom"], f"the kernel ended nothing: {events}")
    found["events"] = dict(seen)
    say(
        f"  docker events: {found['events']}; {logged('worker', 'process is gone')[:300] or 'the worker has replaced it'}"
    )
    return found


def kill_each() -> None:
    """Every service is killed under load, and comes back by itself; nothing is lost."""
    before = tracks()
    with Load().running() as load:
        until("something is published", lambda: load.published)
        kills: dict[str, Any] = {
            service: kill(service, load) for service in ("worker", "api", "postgres", "kafka", "prometheus")
        }
        kills["worker, out of memory"] = starve(load)
        count = len(load.published)
        until("it publishes again", lambda: len(load.published) > count)
    load.arrived(before)
    measured["kills"] = kills | {"reads": dict(load.answers), "published": len(load.published)}
    say(
        f"{sum(load.answers.values())} reads: {dict(load.answers)}; {len(load.published)} events delivered under kills,"
        " none lost; every list equals brute force"
    )


def restart_each() -> None:
    """Every service is restarted under load, in order; nothing is lost, and of the worker nobody notices."""
    before = tracks()
    restarts: dict[str, Any] = {}
    with Load().running() as load:
        until("something is published", lambda: load.published)
        for service in ("worker", "api", "postgres", "kafka"):
            since, began = len(load.bad), time.monotonic()
            compose("stop", service)
            code = run("docker", "inspect", "--format", "{{.State.ExitCode}}", stopped(service)).strip()
            compose("start", service)
            restarts[service] = recovered(service, f"stopped with {code} and started", load, since, began)
            # 143 is how Java ends when it was asked to.
            require(code == ("143" if service == "kafka" else "0"), f"{service} ended with {code}")
    load.arrived(before)
    measured["restarts"] = restarts | {"reads": dict(load.answers), "published": len(load.published)}
    say(f"{len(load.published)} events delivered under restarts, none lost; every list equals brute force")


def scale() -> None:
    """Two workers, and Prometheus sees both."""
    compose("up", "--detach", "--no-recreate", "--scale", "worker=2")
    until(
        "both workers are healthy",
        lambda: healthy("worker") and len(compose("ps", "--quiet", "worker").split()) == 2,
    )
    until(
        "Prometheus scrapes both",
        lambda: '"2"' in from_prometheus('query?query=count(up{job="worker"}==1)'),
        60,
    )
    note_memory("with two workers")
    rules = json.loads(from_prometheus("rules"))
    unwell = [
        rule["name"]
        for group in rules["data"]["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    ]
    require(not unwell, f"rules that cannot be evaluated: {unwell}")
    say("two workers, both scraped; every alert rule is evaluated")


def roll(workers: int) -> dict[str, Any]:
    """A deployment that changes the workers alone, under load: they are replaced one at a time, and nobody notices."""
    before, olds = tracks(), set(compose("ps", "--quiet", "worker").split())
    setting("MESS_WORKERS", str(workers))
    limit = run("docker", "inspect", "--format", "{{.HostConfig.Memory}}", container("worker")).strip()
    setting("MESS_WORKER_MEMORY", "3600M" if int(limit) == 3500 << 20 else "3500M")
    with Load(computed=True).running() as load:
        until("something is published", lambda: load.published)
        began = time.monotonic()
        run("docker/ec2/deploy.sh")
        seconds = round(time.monotonic() - began, 1)
        time.sleep(2)
    news = set(compose("ps", "--quiet", "worker").split())
    require(len(news) == workers and not news & olds, f"workers {olds} became {news}")
    require(not load.bad, f"reads failed while workers were replaced: {load.bad[:3]}")
    # Who takes over reads its lists first. Where that takes more than 5 s, as on a machine with more to do, 504 says so.
    require({status for _, status, _ in load.late} <= {504}, f"computed answers failed: {load.late[:3]}")
    load.arrived(before)
    found = {
        "seconds": seconds,
        "reads": sum(load.answers.values()),
        "computed answers too late": len(load.late),
        "published": len(load.published),
    }
    say(
        f"{len(olds)} worker(s) replaced one at a time by {workers}: {found}; no read of a list failed, no event was lost"
    )
    return found


def roll_workers() -> None:
    """Two workers, and then a single one, get other settings by a deployment."""
    measured["two workers replaced"] = roll(2)
    compose("up", "--detach", "--no-recreate", "--scale", "worker=1")
    measured["a single worker replaced"] = roll(1)


def roll_apis() -> None:
    """Behind Caddy, a deployment that changes the API alone, under load: both are replaced, and no request fails."""
    setting("COMPOSE_PROFILES", "kafka,postgres,tls")
    setting("MESS_DOMAIN", "localhost")
    setting("MESS_TLS_BIND", "127.0.0.1")
    run("docker/ec2/deploy.sh")
    until("Caddy passes requests on", lambda: get("/health/ready", url=PUBLIC)[0] == 200, 60)
    before, olds = tracks(), set(compose("ps", "--quiet", "api", "api2").split())
    setting("MESS_API_LOG_LEVEL", "warning")
    with Load(computed=True, url=PUBLIC).running() as load:
        until("something is published", lambda: load.published)
        run("docker/ec2/deploy.sh")
        time.sleep(2)
    news = set(compose("ps", "--quiet", "api", "api2").split())
    require(len(news) == 2 and not news & olds, f"APIs {olds} became {news}")
    require(
        not load.bad + load.late, f"requests failed while APIs were replaced: {(load.bad + load.late)[:3]}"
    )
    load.arrived(before)
    measured["two APIs replaced"] = {"reads": sum(load.answers.values())}
    say(f"two APIs replaced behind Caddy: {sum(load.answers.values())} answers, all 200")

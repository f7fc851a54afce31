# ruff: noqa: INP001 -- a script that runs commands and tells what they do
"""Steps: the catalogue comes, grows, is backed up, restored and rebuilt."""

import base64
import json
import time

import numpy as np
from stack import (
    DEMO_TRACKS,
    DIMENSION,
    SCRATCH,
    compose,
    digest,
    get,
    in_parts,
    measured,
    mess,
    note_memory,
    publish_one,
    require,
    run,
    say,
    setting,
    settled,
    sql,
    until,
)

MANY = 100_000


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


def _packed(part: np.ndarray) -> dict[str, str]:
    return {"dtype": "float32", "data": base64.b64encode(part.astype("<f4").tobytes()).decode()}


def grow() -> None:
    """100,000 tracks: what a larger catalogue takes of memory, and how fast it comes."""
    rng = np.random.default_rng(5)
    # Around a few hundred centres, as music is, and not evenly over the sphere.
    centres = rng.standard_normal((300, DIMENSION))
    missing = MANY - int(sql("SELECT count(*) FROM tracks"))
    began = time.monotonic()
    for first in range(0, missing, 10_000):
        lines = []
        for number in range(first, min(first + 10_000, missing)):
            vector = centres[number % 300] + 0.8 * rng.standard_normal(DIMENSION)
            embedding = {name: _packed(part) for name, part in in_parts(vector).items()}
            lines.append(
                json.dumps({"track_id": f"many/{number}", "embedding": embedding, "metadata": {}}) + "\n"
            )
        mess("publish", "-", given="".join(lines))
    until("100,000 tracks have their lists", lambda: settled(MANY), 1_800)
    measured["grown to 100,000 tracks, seconds"] = round(time.monotonic() - began, 1)
    note_memory("with 100,000 tracks")
    began = time.monotonic()
    compose("restart", "worker", "api")
    until("the worker maintains again", lambda: settled(MANY) and _active(), 600)
    measured["worker and API restarted with 100,000 tracks, seconds"] = round(time.monotonic() - began, 1)
    note_memory("with 100,000 tracks, after a restart")
    mess("audit", "--sample", "2000", "--threshold", "1")
    say(
        f"{MANY} tracks after {measured['grown to 100,000 tracks, seconds']} s; 2,000 lists equal brute force"
    )


def _active() -> bool:
    """Whether the worker has its partitions."""
    query = "http://127.0.0.1:9090/api/v1/query?query=min(mess_worker_active)"
    return '"1"' in compose("exec", "-T", "prometheus", "wget", "-qO-", query)


def back_up_and_restore() -> None:
    """A backup that is sent away, too, and three restores into an empty stack that must equal what was."""
    until("the lists are settled", lambda: settled(DEMO_TRACKS))
    before = digest()
    setting("MESS_BACKUP_REPOSITORY", str(SCRATCH / "repository"))
    setting("MESS_BACKUP_PASSWORD", "3f1c9a7be2d84056")
    began = time.monotonic()
    run("docker/ec2/backup.sh", str(SCRATCH / "backups"))
    measured["backup, seconds"] = round(time.monotonic() - began, 1)
    [backup] = (SCRATCH / "backups").glob("mess-*")
    measured["backup, MB"] = round(sum(file.stat().st_size for file in backup.iterdir()) / 1e6, 1)
    require(
        "not empty" in run("docker/ec2/restore.sh", "--from", "topics", str(backup), fails=True),
        "restored into a full stack",
    )
    require(backup.name in run("docker/ec2/backup.sh", "--list"), "the backup was not sent away")
    for source, place in (("postgres", "repository:latest"), ("topics", str(backup)), ("both", str(backup))):
        compose("down", "--volumes", "--timeout", "10")
        began = time.monotonic()
        run("docker/ec2/restore.sh", "--from", source, place)
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


def rebuild() -> None:
    """Without Postgres' volume, everything comes from the log again: the runbook's way out of wrong lists."""
    until("the lists are settled", lambda: settled(DEMO_TRACKS))
    before = digest()
    compose("down", "--timeout", "10")
    run("docker", "volume", "rm", "mess-test_postgres-data")
    began = time.monotonic()
    run("docker/ec2/deploy.sh")
    until("the lists are settled", lambda: settled(int(before[0].split()[0])), 600)
    measured["rebuilt from the log, seconds"] = round(time.monotonic() - began, 1)
    require(digest() == before, f"rebuilt: {digest()} is not {before}")
    say(
        f"rebuilt from the log in {measured['rebuilt from the log, seconds']} s: tracks and lists are the same"
    )

# ruff: noqa: INP001, S603, S607 -- a script that runs commands and tells what they do
"""Steps: what deploy.sh does, and what it refuses."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import yaml
from stack import ENV_FILE, ROOT, SCRATCH, URL, compose, get, measured, require, run, say, until


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
    say("settings with default secrets are refused:\n" + said.rstrip())


def build(name: str, dockerfile: str, *options: str) -> str:
    """A small image from a Dockerfile alone."""
    directory = SCRATCH / name
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    subprocess.run(
        ["docker", "build", "-q", "-t", f"mess-ai:{name}", *options, str(directory)],
        check=True,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        stdout=subprocess.DEVNULL,
    )
    return f"mess-ai:{name}"


# In a mount namespace of its own: /etc with what cloud-init writes, and a volume that nobody else sees.
FIRST_BOOT = """
set -euo pipefail
mount -t tmpfs boot "$BOOT"
mkdir "$BOOT/upper" "$BOOT/work"
mount -t overlay boot -o "lowerdir=/etc,upperdir=$BOOT/upper,workdir=$BOOT/work" /etc
mkdir -p /etc/mess-ai
cp "$SETTINGS" /etc/mess-ai/first-boot.env
bash "$SCRIPT"
mountpoint "$MESS_VOLUMES_DIR"
"""


def boot_first() -> None:
    """The script of the user data, as cloud-init runs it: a clone, secrets, an empty volume, and the stack runs."""
    installed = Path("/opt/mess-ai")
    require(not installed.exists(), f"{installed} is there: this machine has a deployment of its own")
    directory = SCRATCH / "boot"
    for name in ("etc", "bin"):
        (directory / name).mkdir(parents=True)
    data = yaml.safe_load((ROOT / "docker/ec2/user-data.yaml").read_text())
    files = {entry["path"]: entry["content"] for entry in data["write_files"]}
    script = directory / "script"
    script.write_text(files[data["runcmd"][0][0]])
    disk = directory / "disk"
    disk.touch()
    os.truncate(disk, 64 << 20)
    device = run("losetup", "--find", "--show", str(disk)).strip()
    settings = {
        "MESS_REPOSITORY": str(ROOT),
        "MESS_REF": run("git", "rev-parse", "HEAD").strip(),
        "MESS_DATA_DEVICE": device,
    }
    given = files["/etc/mess-ai/first-boot.env"]
    require({line.split("=")[0] for line in given.splitlines()} == set(settings), given)
    (directory / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    # Nobody's engine is stopped for it.
    (directory / "bin/systemctl").write_text("#!/bin/sh\n")
    (directory / "bin/systemctl").chmod(0o755)
    told = {
        "BOOT": directory / "etc",
        "SCRIPT": script,
        "SETTINGS": directory / "settings",
        "MESS_VOLUMES_DIR": directory / "volumes",
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
    }
    began = time.monotonic()
    try:
        variables = [f"{name}={value}" for name, value in told.items()]
        said = run("env", *variables, "unshare", "--mount", "bash", "-c", FIRST_BOOT)
        measured["first boot with the build, seconds"] = round(time.monotonic() - began, 1)
        require(f"formatting {device}" in said and f"API        {URL}/" in said, said)
        require(get("/health/ready")[0] == 200, "not ready after the first boot")
    finally:
        compose("down", "--volumes", "--timeout", "10")
        run("losetup", "--detach", device)
        shutil.rmtree(installed, ignore_errors=True)
    say(f"first boot, with an empty volume and the build: {measured['first boot with the build, seconds']} s")


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
    say("a second deployment is refused while one runs: " + said.strip())


def refuse_images() -> None:
    """An image for another processor, and one that is not to be had: what runs is left alone."""
    good, ids = os.environ["MESS_IMAGE"], compose("ps", "--quiet")
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    foreign = build("foreign", "FROM scratch\nLABEL nothing=in-it\n", "--platform", f"linux/{other}")
    for image, expected in (
        (foreign, f"is for {other}, this machine is"),
        ("mess-ai:never-made", "cannot be pulled; what runs goes on as it is"),
    ):
        os.environ["MESS_IMAGE"] = image
        said = run("docker/ec2/deploy.sh", fails=True)
        require(expected in said, said)
        say("refused: " + said.strip().splitlines()[-1])
    os.environ["MESS_IMAGE"] = good
    require(compose("ps", "--quiet") == ids, "a refused image replaced containers")


def roll_back() -> None:
    """A version that never gets ready is replaced by the one before it."""
    good = os.environ["MESS_IMAGE"]
    entry = 'case \\"$*\\" in *migrate*) exec mess-entrypoint \\"$@\\";; esac; exit 3'
    broken = build("broken", f'FROM {good}\nENTRYPOINT ["sh", "-c", "{entry}", "-"]\n')
    patience = os.environ["MESS_READY_SECONDS"]
    os.environ |= {"MESS_IMAGE": broken, "MESS_READY_SECONDS": "60"}
    began = time.monotonic()
    said = run("docker/ec2/deploy.sh", fails=True)
    measured["rolled back, seconds"] = round(time.monotonic() - began, 1)
    require(f"{good} runs again" in said, said)
    require(get("/health/ready")[0] == 200, "not ready after going back")
    os.environ |= {"MESS_IMAGE": good, "MESS_READY_SECONDS": patience}
    say("a broken version was rolled back: " + said.strip().splitlines()[-1])

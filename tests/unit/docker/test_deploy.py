"""What deploy.sh does to a machine before anything of ours runs on it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKER

pytestmark = pytest.mark.unit

SCRIPT = DOCKER / "ec2" / "deploy.sh"
# In a mount namespace of its own, with a table of file systems of its own; the machine's engine is left alone.
INSIDE = """
set -euo pipefail
mount --bind "$SCRATCH/fstab" /etc/fstab
. "$SCRIPT"
mount_data
mountpoint -q "$MESS_VOLUMES_DIR"
"""


def namespace(script: str, scratch: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run bash where mounts are seen by nobody else."""
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        env={
            "PATH": f"{scratch}/bin:{os.environ['PATH']}",
            "SCRATCH": str(scratch),
            "SCRIPT": str(SCRIPT),
            "MESS_VOLUMES_DIR": f"{scratch}/volumes",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A directory with an empty fstab, and programs that keep deploy.sh from stopping the machine's own engine."""
    (tmp_path / "fstab").touch()
    (tmp_path / "bin").mkdir()
    for name in ("systemctl", "docker"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        program.chmod(0o755)
    return tmp_path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """An empty block device."""
    if os.geteuid() != 0 or shutil.which("losetup") is None or shutil.which("mkfs.ext4") is None:
        pytest.skip("NOT CHECKED: which devices deploy.sh formats, for want of root or of loop devices")
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 32 * 2**20)
    made = subprocess.run(["losetup", "--find", "--show", disk], capture_output=True, text=True, check=False)
    if made.returncode != 0 or namespace("true", tmp_path).returncode != 0:
        pytest.skip(f"NOT CHECKED: which devices deploy.sh formats: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_an_empty_device_is_formatted_once_and_what_is_on_it_stays(scratch: Path, device: str) -> None:
    """The first run formats and mounts it, and notes it for the next boot; the second mounts it as it is."""
    write = INSIDE + 'echo kept >"$MESS_VOLUMES_DIR/file"\n'
    first = namespace(write, scratch, MESS_DATA_DEVICE=device)
    assert first.returncode == 0, first.stderr
    assert f"formatting {device}, which is empty" in first.stderr
    noted = (scratch / "fstab").read_text(encoding="utf-8")
    assert noted.startswith("UUID=")
    assert "nofail" in noted
    second = namespace(INSIDE + 'cat "$MESS_VOLUMES_DIR/file"\n', scratch, MESS_DATA_DEVICE=device)
    assert (second.returncode, second.stdout) == (0, "kept\n"), second.stderr
    assert "formatting" not in second.stderr
    assert (scratch / "fstab").read_text(encoding="utf-8") == noted


def test_volumes_that_are_there_are_not_hidden(scratch: Path, device: str) -> None:
    """A device is not mounted over data."""
    (scratch / "volumes" / "mess_postgres-data").mkdir(parents=True)
    done = namespace(INSIDE, scratch, MESS_DATA_DEVICE=device)
    assert done.returncode == 1
    assert "mounting" in done.stderr
    assert "would hide them" in done.stderr


def test_what_is_no_device_is_one_line(scratch: Path) -> None:
    """Nothing is touched."""
    done = subprocess.run(
        ["bash", "-c", f". {SCRIPT}; mount_data"],
        env={
            "PATH": f"{scratch}/bin:{os.environ['PATH']}",
            "MESS_VOLUMES_DIR": f"{scratch}/volumes",
            "MESS_DATA_DEVICE": str(scratch / "fstab"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"mess: {scratch}/fstab is no block device: see lsblk\n"


def test_another_processor_is_named(scratch: Path) -> None:
    """There are images for two kinds."""
    uname = scratch / "bin" / "uname"
    uname.write_text("#!/bin/sh\necho riscv64\n", encoding="utf-8")
    uname.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f". {SCRIPT}; id() {{ echo 0; }}; check_machine"],
        env={"PATH": f"{scratch}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "architecture riscv64; images are for x86_64 and aarch64" in done.stderr


def sourced(scratch: Path, script: str, settings: str, docker: str) -> subprocess.CompletedProcess[str]:
    """Run functions of deploy.sh with settings, and with a stand-in for docker that notes its calls."""
    (scratch / "env").write_text(settings, encoding="utf-8")
    (scratch / "bin" / "docker").write_text(f'#!/bin/bash\necho "$*" >>{scratch}/calls\n{docker}\n', "utf-8")
    return subprocess.run(
        ["bash", "-c", f". {SCRIPT}; {script}"],
        env={"PATH": f"{scratch}/bin:{os.environ['PATH']}", "MESS_ENV_FILE": f"{scratch}/env"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_postgres_of_others_that_does_not_answer_stops_a_deployment_before_it_begins(scratch: Path) -> None:
    """With the reason, and nothing but the question was run."""
    refusing = "echo 'mess: The database cannot be migrated: refused' >&2; exit 1"
    done = sourced(scratch, "require_others image", "COMPOSE_PROFILES=kafka\n", refusing)
    assert done.returncode == 1
    assert "cannot be migrated: refused ; what runs goes on as it is" in done.stderr
    [call] = (scratch / "calls").read_text(encoding="utf-8").splitlines()
    assert call.endswith("run --rm --no-deps -T mess migrate --show")


def test_the_stacks_own_postgres_is_not_asked_before_it_runs(scratch: Path) -> None:
    """The deployment starts it."""
    done = sourced(scratch, "require_others image", "COMPOSE_PROFILES=kafka,postgres\n", "exit 1")
    assert (done.returncode, (scratch / "calls").exists()) == (0, False)


def test_the_stacks_own_kafka_stops_when_others_run_it(scratch: Path) -> None:
    """Its container goes, its volume stays; Postgres, which still runs here, is left alone."""
    there = 'case "$*" in *" ps "*) echo abc ;; esac'
    done = sourced(scratch, "stop_replaced", "COMPOSE_PROFILES=postgres,tls\n", there)
    assert done.returncode == 0, done.stderr
    removals = [
        line for line in (scratch / "calls").read_text(encoding="utf-8").splitlines() if " rm " in line
    ]
    assert [line.split(" rm ")[1] for line in removals] == ["--stop --force kafka"]


def test_workers_are_made_by_one_command_alone(scratch: Path) -> None:
    """Compose 2.26 tells apart what was made with its dependencies and without, and would replace it each time."""
    assert started(scratch, "COMPOSE_PROFILES=kafka,postgres\nMESS_WORKERS=2\n") == [
        "up --detach --remove-orphans setup caddy",
        "wait",
        "up --detach --no-deps api",
        "healthy? api",
        "rm --force --volumes worker",
        "up --detach --no-deps --no-recreate --scale worker=2 worker",
    ]


def started(scratch: Path, settings: str) -> list[str]:
    """What a start has Docker do, in order, where everything gets well at once."""
    well = """case "$*" in
      *"config --services"*) printf '%s\\n' api api2 worker setup caddy ;;
      *" ps "*) echo "${@: -1}" ;;
      wait*) echo 0 ;;
      inspect*) echo healthy ;;
    esac"""
    done = sourced(scratch, "start image", settings, well)
    assert done.returncode == 0, done.stderr
    calls = (scratch / "calls").read_text(encoding="utf-8").splitlines()
    actions = [call.rpartition("docker-compose.prod.yml ")[2] for call in calls]
    actions = [re.sub(r"^inspect .* (\w+)$", r"healthy? \1", action) for action in actions]
    return [
        action.removesuffix(" setup") if action.startswith("wait") else action
        for action in actions
        if action.split()[0] not in ("config", "ps")
    ]


def test_behind_caddy_one_api_is_replaced_when_the_other_answers(scratch: Path) -> None:
    """The second one first, so that Caddy knows it before it has to; then the one that Caddy has always known."""
    actions = started(scratch, "COMPOSE_PROFILES=kafka,postgres,tls\n")
    assert actions[2:-2] == [
        "up --detach --no-deps api2",
        "healthy? api2",
        "healthy? caddy",
        "exec -T caddy caddy reload --config /etc/caddy/Caddyfile",
        "up --detach --no-deps api",
        "healthy? api",
    ]


def test_an_api_that_does_not_get_well_leaves_the_other_alone(scratch: Path) -> None:
    """The failure is passed on while the one that runs still answers."""
    ill = 'case "$*" in *" ps "*) echo "${@: -1}" ;; inspect*) echo starting ;; esac'
    settings = "COMPOSE_PROFILES=kafka,postgres,tls\n"
    done = sourced(scratch, "MESS_READY_SECONDS=1; start_apis image || echo failed", settings, ill)
    assert done.stdout == "failed\n"
    ups = [line for line in (scratch / "calls").read_text(encoding="utf-8").splitlines() if " up " in line]
    assert [line.split(" up ")[1] for line in ups] == ["--detach --no-deps api2"]


def test_files_on_top_are_a_setting_too(scratch: Path) -> None:
    """Relative to the repository, so that backups and deployments agree wherever they are called; the environment wins."""
    settings = "MESS_COMPOSE_FILES=docker/docker-compose.main.yml:/etc/mess/own.yml\n"
    assert sourced(scratch, "compose ps; MESS_COMPOSE_FILES=/a.yml compose ps", settings, "").returncode == 0
    calls = (scratch / "calls").read_text(encoding="utf-8").splitlines()
    files = [re.findall(r"--file (\S+)", call)[1:] for call in calls]
    assert files == [[str(DOCKER / "docker-compose.main.yml"), "/etc/mess/own.yml"], ["/a.yml"]]


def test_a_stack_that_does_not_start_gets_no_workers(scratch: Path) -> None:
    """The failure is passed on, so that the version before can be started again."""
    failing = 'case "$*" in *"config --services"*) echo api ;; *" up "*) exit 1 ;; esac'
    done = sourced(scratch, "start image || echo failed", "", failing)
    assert done.stdout == "failed\n"
    assert "worker=" not in (scratch / "calls").read_text(encoding="utf-8")


def test_a_successor_is_waited_for_under_the_name_of_the_one_it_replaces(scratch: Path) -> None:
    """Compose gives a number away again; the next worker goes when the new one has partitions, not before."""
    two = """case "$*" in
      *--dry-run*) printf ' Container %s  Recreate\\n' w-2 w-1 ;;
      *"ps --format"*) printf '%s\\n' w-1 w-2 ;;
      *"ps "*--quiet*) printf '%s\\n' a b ;;
      wait*) echo 0 ;;
    esac"""
    done = sourced(scratch, "roll_workers image", "MESS_WORKERS=2\n", two)
    assert done.returncode == 0, done.stderr
    calls = (scratch / "calls").read_text(encoding="utf-8").splitlines()
    seen = [" ".join(call.split()[:2]) for call in calls if call.startswith(("stop", "exec"))]
    assert seen == ["stop w-2", "exec w-2", "stop w-1", "exec w-1", "exec w-2"]

"""The supervisor, on tiny real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mess.stack import guardian
from mess.stack.diskroom import ENOUGH_BYTES, DiskRoom
from mess.stack.errors import ServiceFailedError
from mess.stack.service import RestartPolicy, ServiceSpec
from mess.stack.supervisor import Supervisor, describe_exit, find_failure_line
from tests.support.polling import until

pytestmark = pytest.mark.unit

SLEEP = "import time; time.sleep(60)"
QUICK = RestartPolicy(limit=3, window=60.0, first_delay=0.01, max_delay=0.02)


def spec(tmp_path: Path, code: str, name: str = "child") -> ServiceSpec:
    """A service that is a Python one-liner."""
    return ServiceSpec(
        name=name,
        argv=[sys.executable, "-I", "-S", "-c", code],
        log=tmp_path / f"{name}.log",
        stop_grace=2.0,
        ready_timeout=10.0,
    )


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    """A quick supervisor, stopped afterwards."""
    running = Supervisor(policy=QUICK)
    yield running
    await running.stop()


async def test_a_service_that_exits_at_once_fails_its_start(supervisor: Supervisor, tmp_path: Path) -> None:
    """A first start that ends is an error with the exit status, the reason and the log, not a restart."""
    code = "import sys; print('ERROR: no room'); sys.exit(3)"
    never = replace(spec(tmp_path, code), probe=_no)
    with pytest.raises(ServiceFailedError) as caught:
        await supervisor.start(never)
    assert str(caught.value) == (
        f"child exited with status 3 (ERROR: no room); its log is {tmp_path / 'child.log'}"
    )
    assert supervisor.pids == {}


async def test_a_program_that_is_missing_fails_its_start(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that does not exist is named."""
    missing = replace(spec(tmp_path, ""), argv=["/nowhere/program"])
    with pytest.raises(ServiceFailedError, match=r"cannot be started .*: /nowhere/program"):
        await supervisor.start(missing)


async def test_a_service_that_never_gets_ready_fails_its_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A probe that keeps saying no ends the start after the service's own time limit."""
    slow = replace(spec(tmp_path, SLEEP), probe=_no, ready_timeout=0.2)
    with pytest.raises(ServiceFailedError, match="was not ready after 0 s"):
        await supervisor.start(slow)


async def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    """After a kill there is a new process, the change is announced, and the follow-up runs."""
    changes: list[dict[str, int]] = []
    followed = asyncio.Event()

    async def follow() -> None:
        followed.set()

    supervisor = Supervisor(policy=QUICK, on_change=lambda: changes.append(supervisor.pids))
    try:
        await supervisor.start(replace(spec(tmp_path, SLEEP), after_restart=follow))
        first = supervisor.pids["child"]
        assert not followed.is_set()
        os.kill(first, signal.SIGKILL)
        await followed.wait()
        assert supervisor.pids["child"] != first
        assert [change["child"] for change in changes] == [first, supervisor.pids["child"]]
    finally:
        await supervisor.stop()


async def test_a_service_that_keeps_dying_ends_the_wait(supervisor: Supervisor, tmp_path: Path) -> None:
    """At the limit of deaths the supervisor gives up, naming the service, its end and its last words."""
    count = tmp_path / "count"
    started = tmp_path / "started"
    code = (
        "import os, time\n"
        f"while not os.path.exists({str(started)!r}): time.sleep(0.01)\n"
        f"open({str(count)!r}, 'a').write('x'); print('last words', flush=True); raise SystemExit(7)"
    )
    await supervisor.start(spec(tmp_path, code))
    started.touch()
    with pytest.raises(ServiceFailedError) as caught:
        await supervisor.wait()
    assert "child died 3 times within 60 s, last: exited with status 7" in str(caught.value)
    assert caught.value.log_tail == ["last words"]
    assert count.read_text() == "xxx"


async def test_stages_stop_from_the_highest_down(supervisor: Supervisor, tmp_path: Path) -> None:
    """A service of a lower stage still runs while a higher one stops."""
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        f"    time.sleep(0.2); open({str(order)!r}, 'a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('set', flush=True); time.sleep(60)"
    )
    for stage, name in enumerate("abc"):
        service = spec(tmp_path, code, name)
        log = service.log
        await supervisor.start(replace(service, argv=[*service.argv, name], stage=stage))
        await until(lambda log=log: log.exists() and log.read_text() == "set\n")  # type: ignore[misc]
    await supervisor.stop()
    assert order.read_text() == "cba"


async def test_a_service_that_ignores_its_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    """When the grace is over the whole group is killed, children included."""
    note = tmp_path / "note"
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        f"open({str(note)!r}, 'w').write(f'{{child.pid}} '); time.sleep(60)"
    )
    await supervisor.start(replace(spec(tmp_path, code), stop_grace=0.1))
    await until(lambda: note.exists() and note.read_text().endswith(" "))
    pids = [*supervisor.pids.values(), int(note.read_text())]
    await supervisor.stop()
    await until(lambda: not any(_runs(pid) for pid in pids))


async def test_a_group_that_has_ended_is_never_signalled_again(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a process is collected its number may be a stranger's, so stopping sends nothing to it."""
    with pytest.raises(ServiceFailedError):
        await supervisor.start(replace(spec(tmp_path, "pass"), probe=_no))
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(group))
    supervisor.kill()
    await supervisor.stop()
    assert sent == []


async def test_a_recycled_service_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    """Recycling stops a service in order and starts it again."""
    await supervisor.start(spec(tmp_path, SLEEP))
    first = supervisor.pids["child"]
    supervisor.recycle("child")
    await until(lambda: supervisor.pids.get("child", first) != first)


async def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """After a kill -9 of the supervisor its guardian ends the children."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from mess.stack.service import ServiceSpec\n"
        "from mess.stack.supervisor import Supervisor\n"
        "async def main():\n"
        "    supervisor = Supervisor()\n"
        f"    argv = [sys.executable, '-c', {SLEEP!r}]\n"
        f"    await supervisor.start(ServiceSpec(name='a', argv=argv, log=Path({str(tmp_path / 'a.log')!r})))\n"
        "    print(supervisor.pids['a'], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert _runs(pid)
    process.kill()
    await process.wait()
    await until(lambda: not _runs(pid))


async def test_services_that_start_side_by_side_share_a_guardian(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A second one would lose the first, which ends what is in its care when nobody holds it any more."""
    await asyncio.gather(*(supervisor.start(spec(tmp_path, SLEEP, name)) for name in ("one", "other")))
    ours = [child.cmdline() for child in psutil.Process().children()]
    assert sum(guardian.__file__ in line for line in ours) == 1


def test_the_guardian_kills_what_ignores_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group whose leader does not stop within the grace is killed."""
    monkeypatch.setattr(guardian, "GRACE_SECONDS", 0.1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = psutil.Popen([sys.executable, "-I", "-c", code], stdout=-1, start_new_session=True)
    with child:
        child.stdout.readline()
        guardian.end_children({child.pid: signal.SIGTERM})
        assert child.wait() == -signal.SIGKILL


def test_delays_double_up_to_their_limit() -> None:
    """The wait before a restart grows with each death and is bounded."""
    policy = RestartPolicy(first_delay=0.5, max_delay=3.0)
    assert [policy.delay(deaths) for deaths in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exited with status 0"), (-9, "was ended by SIGKILL"), (-222, "was ended by signal 222")],
)
def test_an_exit_is_described(code: int, text: str) -> None:
    """A return code reads as a status or the name of a signal."""
    assert describe_exit(code) == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("2026-01-02 03:04:05.678 UTC [12] FATAL:  no pg_hba.conf", "FATAL:  no pg_hba.conf"),
        ("[2026-01-02 03:04:05,678] ERROR Exiting (Kafka)", "ERROR Exiting (Kafka)"),
        ("ValueError: nothing", "ValueError: nothing"),
    ],
)
def test_the_complaint_of_a_log_is_found(line: str, text: str) -> None:
    """The last line that reads as a failure is quoted, without its time, whatever follows it."""
    assert find_failure_line(["ERROR an earlier one", line, "shut down"]) == text
    assert find_failure_line(["all is well"]) is None


async def _no() -> bool:
    return False


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Disk:
    """A disk whose free bytes a test sets."""

    def __init__(self) -> None:
        self.free = ENOUGH_BYTES + 1

    def room(self) -> DiskRoom:
        """See `DiskRoom`."""
        return DiskRoom(lambda: self.free)


async def test_writers_stop_while_the_disk_is_nearly_full_and_readers_do_not(tmp_path: Path) -> None:
    """Who needs room is stopped and started again by itself, others run on; each is said once."""
    disk, lines = Disk(), list[str]()
    supervisor = Supervisor(policy=QUICK, report=lines.append, room=disk.room())
    try:
        await supervisor.start(spec(tmp_path, SLEEP, "reader"))
        await supervisor.start(replace(spec(tmp_path, SLEEP, "writer"), needs_room=True))
        before = supervisor.pids
        disk.free = 0
        await until(lambda: set(supervisor.pids) == {"reader"})
        disk.free = ENOUGH_BYTES + 1
        await until(lambda: set(supervisor.pids) == {"reader", "writer"})
        await until(lambda: len(lines) == 3)
        assert supervisor.pids["reader"] == before["reader"]
        assert supervisor.pids["writer"] != before["writer"]
        assert lines == [
            "the disk is nearly full: writer stopped until there is room; stored lists are read as before",
            "there is room on the disk again; going on",
            "writer is back",
        ]
    finally:
        await supervisor.stop()


async def test_a_service_that_dies_for_want_of_room_is_started_until_it_lives(tmp_path: Path) -> None:
    """However often it dies meanwhile, the supervisor does not give up, and says so once."""
    disk, lines, count, full = Disk(), list[str](), tmp_path / "count", tmp_path / "full"
    code = (
        "import os, time\n"
        f"open({str(count)!r}, 'a').write('x')\n"
        f"while not os.path.exists({str(full)!r}): time.sleep(0.01)\n"
        "raise SystemExit(1)"
    )

    async def lives() -> bool:
        return count.exists() and not full.exists()

    supervisor = Supervisor(policy=QUICK, report=lines.append, room=disk.room())
    try:
        await supervisor.start(replace(spec(tmp_path, code, "database"), probe=lives))
        disk.free = 0
        full.touch()
        await until(lambda: len(count.read_text()) > 2 * QUICK.limit)
        full.unlink()
        await until(lambda: "database is back" in lines)
        disk.free = ENOUGH_BYTES + 1
        await until(lambda: "there is room on the disk again; going on" in lines)
        assert lines[1 : lines.index("database is back")] == [
            "database exited with status 1, the disk being full; it is started until it stays"
        ]
    finally:
        await supervisor.stop()


async def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """What a service says on a full disk is left out, with one line about it; the service runs on."""
    lines, place = list[str](), spec(tmp_path, "print('x' * 100, flush=True); import time; time.sleep(60)")
    place.log.symlink_to("/dev/full")
    supervisor = Supervisor(policy=QUICK, report=lines.append)
    try:
        await supervisor.start(place)
        await until(lambda: bool(lines))
        assert lines == [
            "logs cannot be written (No space left on device): what goes into them is left out until they can be"
        ]
        assert set(supervisor.pids) == {"child"}
    finally:
        await supervisor.stop()

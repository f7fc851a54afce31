"""The stack's small parts: ports, files, logs, Java, jars, configuration, the data directory."""

import contextlib
import socket
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import orjson
import psutil
import pytest

from mess.stack import datadir, jars, java, ports, tansu
from mess.stack.broker import BrokerChoice, prepare_broker
from mess.stack.diskroom import ENOUGH_BYTES, SCARCE_BYTES, DiskRoom
from mess.stack.errors import StackError
from mess.stack.files import tail_lines, write_private
from mess.stack.jars import kafka_jars
from mess.stack.java import KafkaUnavailableError, find_java, parse_version
from mess.stack.kafka import MAX_MESSAGE_BYTES, EmbeddedKafka, new_cluster_id
from mess.stack.logs import RotatingLog
from mess.stack.statefile import Pids, StackState, read_state, remove_state, write_state

pytestmark = pytest.mark.unit


def silent(_line: str) -> None:
    """Report to nobody."""


def program(directory: Path, name: str, script: str) -> Path:
    """An executable shell script in `directory`."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Java, Maven or cached jars; returns the only directory on its PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("MESS_CACHE_DIR", str(tmp_path / "cache"))
    return path


def test_a_port_in_use_is_refused() -> None:
    """A port somebody listens on gets one line that says what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} on 127.0.0.1 is in use .*--port"):
            ports.require_free(port)
    ports.require_free(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    """Numbers outside TCP's range are named as such."""
    with pytest.raises(StackError, match="is not a TCP port"):
        ports.require_free(port)


def test_ports_are_remembered_while_free(tmp_path: Path) -> None:
    """A name keeps its port across runs, gets another when somebody took it, and none is given twice."""
    first = ports.PortBook(tmp_path / "ports.json")
    a, b = first.get("a"), first.get("b")
    assert a != b
    assert ports.PortBook(tmp_path / "ports.json").get("a") == a
    with socket.socket() as other:
        other.bind(("127.0.0.1", a))
        other.listen()
        moved = ports.PortBook(tmp_path / "ports.json").get("a")
    assert moved not in (a, b)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": "x"}', b'{"a": 70000}'])
def test_a_broken_book_of_ports_is_started_afresh(tmp_path: Path, content: bytes) -> None:
    """Remembered ports are a convenience: what cannot be read is forgotten."""
    (tmp_path / "ports.json").write_bytes(content)
    assert 0 < ports.PortBook(tmp_path / "ports.json").get("a") < 65536


def test_private_files_are_whole_and_the_owners_alone(tmp_path: Path) -> None:
    """A file is replaced in one step, mode 0600, and nothing else is left in the directory."""
    path = tmp_path / "secret"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_the_tail_of_a_file(tmp_path: Path) -> None:
    """The last non-empty lines are returned, none from before the offset, all if the file was cut since."""
    path = tmp_path / "log"
    assert tail_lines(path, 3) == []
    path.write_text("a\n\nb\nc\n")
    assert tail_lines(path, 2) == ["b", "c"]
    assert tail_lines(path, 9, since=5) == ["c"]
    assert tail_lines(path, 9, since=999) == ["a", "b", "c"]


def test_logs_rotate_by_size(tmp_path: Path) -> None:
    """The newest bytes are in the log, older generations behind it, the oldest dropped."""
    path = tmp_path / "logs" / "x.log"
    with RotatingLog(path, max_bytes=10, generations=2) as log:
        for chunk in (b"first..", b"second.", b"third..", b"fourth.", b"5"):
            log.write(chunk)
    assert path.read_bytes() == b"fourth.5"
    assert path.with_name("x.log.1").read_bytes() == b"third.."
    assert path.with_name("x.log.2").read_bytes() == b"second."
    assert len(list(path.parent.iterdir())) == 3


def test_a_log_that_cannot_be_written_says_so_once_and_goes_on_when_it_can(tmp_path: Path) -> None:
    """On a full disk nothing is raised; the reason is told once, and the log says later how much it lacks."""
    path, told = tmp_path / "x.log", list[str | None]()
    path.symlink_to("/dev/full")
    with RotatingLog(path, on_trouble=told.append) as log:
        for _ in range(3):
            log.write(b"lost ")
        assert told == ["No space left on device"]
        path.unlink()
        log.close()
        log._try_at = 0.0
        log.write(b"kept\n")
    assert told == ["No space left on device", None]
    assert (
        path.read_bytes() == b"[15 bytes of this log could not be written: No space left on device]\nkept\n"
    )


def test_room_is_scarce_until_there_is_clearly_more() -> None:
    """Between the two marks it stays as it was, and what cannot be asked changes nothing."""
    answers = iter([ENOUGH_BYTES, SCARCE_BYTES, SCARCE_BYTES - 1, SCARCE_BYTES + 1, ENOUGH_BYTES + 1])
    room = DiskRoom(lambda: next(answers))
    assert [room.look() for _ in range(5)] == [False, False, True, True, False]

    def gone() -> int:
        raise FileNotFoundError

    assert not DiskRoom(gone).look()


def test_a_data_directory_is_its_owners_alone(tmp_path: Path) -> None:
    """What is made is closed to others, and so is what an earlier version left open."""
    data_dir = tmp_path / "data"
    with datadir.locked_data_directory(data_dir):
        RotatingLog(data_dir / "logs" / "x.log").close()
        (data_dir / "kafka" / "log").mkdir(parents=True, mode=0o755)
    (data_dir / "kafka").chmod(0o755)
    with datadir.locked_data_directory(data_dir):
        directories = [data_dir, *(path for path in data_dir.rglob("*") if path.is_dir())]
        assert len(directories) == 4
        assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.2"', 21),
        ("not java at all", None),
    ],
)
def test_javas_version_is_read(text: str, version: int | None) -> None:
    """Old and new ways of naming a Java release are understood."""
    assert parse_version(text) == version


def test_no_java_is_a_reason(bare_machine: Path) -> None:
    """Without Java the reason says so."""
    with pytest.raises(KafkaUnavailableError, match=r"^no Java found"):
        find_java()


def test_an_old_java_is_a_reason(bare_machine: Path) -> None:
    """A Java before 17 is named with its version."""
    program(bare_machine, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(KafkaUnavailableError, match="Java 11 is too old"):
        find_java()


def test_java_home_comes_first(bare_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JAVA_HOME's Java is used before the PATH's."""
    program(bare_machine, "java", "echo 'openjdk version \"11\"' >&2")
    (tmp_path / "home").mkdir()
    home = program(tmp_path / "home" / "bin", "java", "echo 'openjdk version \"21\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == home


def test_no_maven_is_a_reason(bare_machine: Path) -> None:
    """Without Maven and without cached jars the reason says so."""
    with pytest.raises(KafkaUnavailableError, match="no Maven"):
        kafka_jars(silent)


def test_jars_that_cannot_be_resolved_are_a_reason(bare_machine: Path, tmp_path: Path) -> None:
    """Maven's first error is quoted, and nothing half-done is left to be trusted later."""
    program(
        bare_machine, "mvn", "echo '[INFO] x'; echo '[ERROR] Could not resolve: offline -> [Help 1]'; exit 1"
    )
    with pytest.raises(KafkaUnavailableError, match=r"\(Could not resolve: offline\)$"):
        kafka_jars(silent)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_resolution_without_kafka_is_not_trusted(bare_machine: Path, tmp_path: Path) -> None:
    """Maven succeeding without the server's jar counts as a failure."""
    program(bare_machine, "mvn", "exit 0")
    with pytest.raises(KafkaUnavailableError, match="no Kafka server jar"):
        kafka_jars(silent)
    assert list((tmp_path / "cache").iterdir()) == []


def test_resolved_jars_are_kept(bare_machine: Path, tmp_path: Path) -> None:
    """Resolved jars appear in one step, and Maven is not asked again."""
    script = 'for a in "$@"; do case $a in -DoutputDirectory=*) d=${a#*=};; esac; done; '
    script += "/bin/mkdir $d; echo jar > $d/kafka_2.13-x.jar"
    maven = program(bare_machine, "mvn", script)
    found = kafka_jars(silent)
    assert found.parent == tmp_path / "cache"
    assert [jar.name for jar in found.iterdir()] == ["kafka_2.13-x.jar"]
    maven.unlink()
    assert kafka_jars(silent) == found
    assert list(found.parent.iterdir()) == [found]


def test_the_pom_names_pinned_artifacts_and_no_registry() -> None:
    """The generated project lists each artifact with its version, and leaves repositories to Maven."""
    space = "{http://maven.apache.org/POM/4.0.0}"
    project = ET.fromstring(jars.maven_project())
    found = {
        tuple(node.findtext(f"{space}{tag}") for tag in ("groupId", "artifactId", "version"))
        for node in project.iter(f"{space}dependency")
    }
    assert found == set(jars.ARTIFACTS)
    assert project.find(f"{space}repositories") is None


def test_the_fallback_says_why_and_what_it_lacks(bare_machine: Path, tmp_path: Path) -> None:
    """Where Kafka cannot run, `auto` takes Tansu and reports one line with the reason and the limits."""
    lines: list[str] = []
    broker = prepare_broker(BrokerChoice.AUTO, tmp_path, tmp_path / "x.log", lambda _: 4711, lines.append)
    assert (broker.kind, broker.bootstrap_servers, broker.keeps_topics) == ("tansu", "127.0.0.1:4711", False)
    assert lines == [tansu.tansu_notice(f"no Java found (Kafka needs Java {java.MINIMUM_VERSION} or later)")]
    assert tansu.LIMITS in lines[0]


def test_kafka_that_was_asked_for_has_no_fallback(bare_machine: Path, tmp_path: Path) -> None:
    """`--broker kafka` on a machine without Java is an error."""
    with pytest.raises(KafkaUnavailableError):
        prepare_broker(BrokerChoice.KAFKA, tmp_path, tmp_path / "x.log", lambda _: 4711, silent)


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    """One random id in 64 would begin with a dash, and Kafka's tools would refuse it."""
    ids = {new_cluster_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(cluster) == 22 and not cluster.startswith("-") for cluster in ids)


def test_kafkas_configuration_is_for_one_node_on_loopback(tmp_path: Path) -> None:
    """Listeners are loopback, nothing asks for replicas, and large messages fit."""
    directory = tmp_path / "späce dir"
    kafka = EmbeddedKafka(
        directory, Path("/java"), Path("/jars"), port=1111, controller_port=2222, log=tmp_path / "x.log"
    )
    values = dict(line.split("=", 1) for line in kafka.properties().splitlines())
    assert values["listeners"] == "CLIENT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert values["log.dirs"] == f"{tmp_path}/sp\\u00e4ce dir/log"
    assert int(values["message.max.bytes"]) == MAX_MESSAGE_BYTES > 6_000_000
    assert {value for name, value in values.items() if name.endswith("replication.factor")} == {"1"}


def test_a_log_directory_without_its_identity_is_broken(tmp_path: Path) -> None:
    """Kafka's files without meta.properties are not formatted over."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "segment").touch()
    kafka = EmbeddedKafka(
        tmp_path, Path("/java"), Path("/jars"), port=1, controller_port=2, log=tmp_path / "x"
    )
    with pytest.raises(StackError, match=r"broken: it holds files but no meta\.properties"):
        kafka.prepare(silent)
    assert (tmp_path / "log" / "segment").exists()


def test_the_state_file_is_as_documented(tmp_path: Path) -> None:
    """`stack.json` has exactly the documented keys, is private, and can be read back and removed."""
    state = StackState(
        http_url="http://127.0.0.1:1",
        bootstrap_servers="127.0.0.1:2",
        database_url="postgresql://mess:x@127.0.0.1:3/mess",
        broker="kafka",
        pids=Pids(api=1, workers=[2, 3], broker=4, postgres=5),
    )
    write_state(tmp_path, state)
    stored = orjson.loads((tmp_path / "stack.json").read_bytes())
    assert stored == {
        "http_url": "http://127.0.0.1:1",
        "bootstrap_servers": "127.0.0.1:2",
        "database_url": "postgresql://mess:x@127.0.0.1:3/mess",
        "broker": "kafka",
        "pids": {"api": 1, "workers": [2, 3], "broker": 4, "postgres": 5},
    }
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600
    assert read_state(tmp_path) == state
    remove_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{}", '{"http_url": 1}'])
def test_a_broken_state_file_is_one_line(tmp_path: Path, content: str) -> None:
    """A state file that cannot be read is named."""
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(StackError, match=r"stack\.json cannot be read"):
        read_state(tmp_path)


def test_a_data_directory_is_held_by_one_process(tmp_path: Path) -> None:
    """A second stack on the same directory is told who holds it; a killed holder holds nothing."""
    directory = tmp_path / "data"
    code = (
        "from mess.stack import datadir; from pathlib import Path\n"
        f"with datadir.locked_data_directory(Path({str(directory)!r})): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert datadir.is_locked(directory)
        with (
            pytest.raises(StackError, match=rf"already running on .* \(process {holder.pid}\)"),
            datadir.locked_data_directory(directory),
        ):
            pass
        holder.kill()
    assert not datadir.is_locked(directory)
    with datadir.locked_data_directory(directory):
        assert datadir.is_locked(directory)


def test_another_programs_directory_is_left_alone(tmp_path: Path) -> None:
    """A directory with other files is refused, and nothing is written into it."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StackError, match="holds other files"), datadir.locked_data_directory(tmp_path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("content", "reason"), [("x", "cannot be read"), ('{"layout": 9}', "layout 9")])
def test_a_directory_of_another_layout_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    """A marker that is broken or from another version is one clear line."""
    (tmp_path / "mess.json").write_text(content)
    with pytest.raises(StackError, match=reason), datadir.locked_data_directory(tmp_path):
        pass


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    """A file in the place of the data directory is one clear line."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used"), datadir.locked_data_directory(tmp_path / "file"):
        pass


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    """A noted process is ended; one that merely has a noted number is not."""
    sleep = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleep) as ours,
        psutil.Popen(sleep) as stranger,
        contextlib.ExitStack() as clean_up,
    ):
        clean_up.callback(stranger.kill)
        clean_up.callback(ours.kill)
        datadir.note_processes(tmp_path, {"worker-1": ours.pid})
        notes = orjson.loads((tmp_path / "processes.json").read_bytes())
        notes["api"] = [stranger.pid, stranger.create_time() - 100]
        (tmp_path / "processes.json").write_bytes(orjson.dumps(notes))
        lines: list[str] = []
        datadir.end_leftovers(tmp_path, lines.append)
        assert not psutil.pid_exists(ours.pid)
        assert stranger.is_running()
        assert lines == [f"ending worker-1 of an earlier run (process {ours.pid})"]
    assert not (tmp_path / "processes.json").exists()


def test_broken_notes_of_processes_are_ignored(tmp_path: Path) -> None:
    """What cannot be read ends nothing."""
    (tmp_path / "processes.json").write_text('{"api": 1}')
    lines: list[str] = []
    datadir.end_leftovers(tmp_path, lines.append)
    assert lines == []

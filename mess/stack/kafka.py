"""Apache Kafka as one KRaft node on loopback, run by the machine's Java."""

from __future__ import annotations

import base64
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from mess.stack.broker_probe import broker_answers
from mess.stack.classes import ClassArchive
from mess.stack.commands import run_command
from mess.stack.errors import StackError
from mess.stack.files import private_directory
from mess.stack.jars import KAFKA_VERSION
from mess.stack.ports import LOOPBACK
from mess.stack.service import Report, ServiceSpec

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest message the broker takes: room for a 5 MB message that is then refused by contract, not by size."""

HEAP_MEGABYTES = 384

# One node starts in about three seconds this way: no time spent on compiling what a laptop runs for an hour.
JVM_OPTIONS = (
    f"-Xmx{HEAP_MEGABYTES}m",
    "-Xms32m",
    "-Xmn8m",
    "-XX:MinHeapFreeRatio=10",
    "-XX:MaxHeapFreeRatio=20",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    f"-Djava.net.preferIPv4Stack={'true' if LOOPBACK == '127.0.0.1' else 'false'}",
)

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
logger.state.name = state.change.logger
logger.state.level = warn
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = warn
"""


class EmbeddedKafka:
    """One Kafka node whose log, configuration and cluster id live in a directory.

    `prepare` writes the configuration and formats the log the first time; `service` is what a supervisor runs.
    """

    def __init__(self, data_dir: Path, java: Path, jars: Path, *, port: int, controller_port: int, log: Path):
        """Describe a broker without touching anything.

        Args:
            data_dir: The node's directory; made by `prepare` if missing.
            java: The Java launcher.
            jars: Directory with Kafka's jars.
            port: Loopback port for clients.
            controller_port: Loopback port the node's own controller listens on.
            log: File for the broker's log.
        """
        self._data_dir = data_dir.resolve()
        self._java = java
        self._jars = jars
        self._classes = ClassArchive(java, jars)
        self._port = port
        self._controller_port = controller_port
        self._log = log

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self._port}"

    def prepare(self, report: Report) -> None:
        """Write the configuration, and format the log directory if that was not done yet.

        Raises:
            StackError: The directory cannot be written, or Kafka refuses to format it.
        """
        try:
            private_directory(self._data_dir)
            self._path("server.properties").write_text(self.properties())
            self._path("log4j2.properties").write_text(LOG4J)
        except OSError as error:
            raise StackError(
                f"cannot write the broker's directory {self._data_dir}: {error.strerror}"
            ) from error
        logs = self._path("log")
        if (logs / "meta.properties").exists():
            return
        if logs.exists() and any(logs.iterdir()):
            raise StackError(
                f"the broker's directory {logs} is broken: it holds files but no meta.properties; "
                "restore it, or remove it to start with empty topics"
            )
        report("formatting the log directory of Kafka, once")
        self._format(logs)

    def service(self) -> ServiceSpec:
        """Return the broker's process for a supervisor."""
        return ServiceSpec(
            name="broker",
            argv=self._command(self._classes.options(), "kafka.Kafka", str(self._path("server.properties"))),
            log=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")},
            stop_grace=3.0,
            probe=lambda: broker_answers(self.bootstrap_servers),
            ready_timeout=90.0,
        )

    def properties(self) -> str:
        """Return the node's `server.properties`."""
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "listeners": f"CLIENT://{LOOPBACK}:{self._port},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"CLIENT://{LOOPBACK}:{self._port}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self._path("log"),
            "auto.create.topics.enable": "false",
            # One node: nothing can be replicated, and few partitions start faster.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 4,
            "default.replication.factor": 1,
            # A single consumer need not wait for others to join.
            "group.initial.rebalance.delay.ms": 0,
            # What MESS_SESSION_TIMEOUT_SECONDS may be at least.
            "group.min.session.timeout.ms": 1_000,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
            # How long a node that was killed is kept waiting for its own former self when it comes back.
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 1_000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 4,
            # Of the controller's records that say nothing: each is a write to the disk, by default twice a second.
            "metadata.max.idle.interval.ms": 5_000,
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
            "controlled.shutdown.max.retries": 1,
        }
        return "".join(f"{key}={_escape(str(value))}\n" for key, value in values.items())

    def _format(self, logs: Path) -> None:
        arguments = [
            "format",
            "--cluster-id",
            new_cluster_id(),
            "--config",
            str(self._path("server.properties")),
        ]
        with self._classes.written() as options:
            done = run_command(self._command(options, "kafka.tools.StorageTool", *arguments))
            if done.status:
                shutil.rmtree(logs, ignore_errors=True)
                raise StackError(f"Kafka {KAFKA_VERSION} cannot format {logs}: {done.last_line}")

    def _command(self, options: Sequence[str], main: str, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._path('log4j2.properties')}"
        return [str(self._java), *JVM_OPTIONS, *options, logging, "-cp", f"{self._jars}/*", main, *arguments]

    def _path(self, name: str) -> Path:
        return self._data_dir / name


def new_cluster_id() -> str:
    """Return a random cluster id as Kafka writes them: 22 characters, the first not a dash, which is an option's."""
    while True:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster.startswith("-"):
            return cluster


def _escape(value: str) -> str:
    """Escape a value for a Java properties file."""
    return value.replace("\\", "\\\\").encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")

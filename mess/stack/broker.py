"""Which broker the local stack runs: Apache Kafka if it can, Tansu if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mess.stack import tansu
from mess.stack.jars import kafka_jars
from mess.stack.java import KafkaUnavailableError, find_java
from mess.stack.kafka import EmbeddedKafka
from mess.stack.service import Report, ServiceSpec
from mess.stack.tansu import EmbeddedTansu


class BrokerChoice(StrEnum):
    """What a user asks for."""

    AUTO = "auto"
    KAFKA = "kafka"
    TANSU = "tansu"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is prepared and can be started.

    Attributes:
        kind: "kafka" or "tansu".
        bootstrap_servers: Where clients will connect.
        service: Its process, for a supervisor.
        keeps_topics: Whether topics survive a restart of the process.
    """

    kind: str
    bootstrap_servers: str
    service: ServiceSpec
    keeps_topics: bool


def prepare_broker(
    choice: BrokerChoice, data_dir: Path, log: Path, ports: Callable[[str], int], report: Report
) -> Broker:
    """Prepare the broker that was asked for, or the best this machine can run.

    Args:
        choice: AUTO prefers Apache Kafka and falls back to Tansu, saying why.
        data_dir: Parent of Kafka's own directory.
        log: File for the broker's log.
        ports: Gives a free loopback port for a name.
        report: Takes progress lines.

    Raises:
        KafkaUnavailableError: Kafka was asked for and cannot run here.
        StackError: The broker's directory is broken, or there is no broker for this platform at all.
    """
    if choice is not BrokerChoice.TANSU:
        try:
            java, jars = find_java(), kafka_jars(report)
        except KafkaUnavailableError as reason:
            if choice is BrokerChoice.KAFKA:
                raise
            report(tansu.tansu_notice(str(reason)))
        else:
            kafka = EmbeddedKafka(
                data_dir / "kafka",
                java,
                jars,
                port=ports("broker"),
                controller_port=ports("controller"),
                log=log,
            )
            kafka.prepare(report)
            return Broker("kafka", kafka.bootstrap_servers, kafka.service(), keeps_topics=True)
    fallback = EmbeddedTansu(port=ports("broker"), log=log)
    return Broker("tansu", fallback.bootstrap_servers, fallback.service(), keeps_topics=False)

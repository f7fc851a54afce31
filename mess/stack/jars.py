"""Kafka's jars, resolved once by Maven and kept in a cache directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from mess.stack.java import KafkaUnavailableError
from mess.stack.service import Report

KAFKA_VERSION = "4.2.1"
LOG4J_VERSION = "2.25.1"

# log4j: Kafka's scripts bring its logging along from their own distribution; the published module does not.
ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
)

# Pinned so that Maven's own default version of the plugin does not decide.
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

MAVEN_TIMEOUT_SECONDS = 600


def cache_root() -> Path:
    """Return where downloads are kept: MESS_CACHE_DIR, or `mess-ai` in the user's cache directory."""
    configured = os.environ.get("MESS_CACHE_DIR")
    if configured:
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mess-ai"


def kafka_jars(report: Report) -> Path:
    """Return the directory with Kafka's jars, having Maven resolve them the first time.

    Raises:
        KafkaUnavailableError: No Maven, or it could not resolve them.
    """
    jars = cache_root() / f"kafka-{KAFKA_VERSION}-log4j-{LOG4J_VERSION}"
    # The directory gets its name in one step, when it is complete: if it is there, it can be trusted.
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError("Kafka's jars are not cached and no Maven (mvn) is there to resolve them")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jars.parent, prefix=".resolving-") as scratch:
            _resolve(maven, Path(scratch), report)
            _publish(Path(scratch, "jars"), jars)
    except OSError as error:
        raise KafkaUnavailableError(
            f"cannot write the cache directory {jars.parent}: {error.strerror}"
        ) from error
    return jars


def maven_project() -> str:
    """Return the Maven project whose runtime dependencies are what a Kafka server needs."""
    project = ET.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")

    def add(parent: ET.Element, **texts: str) -> None:
        for tag, text in texts.items():
            ET.SubElement(parent, tag).text = text

    add(
        project,
        modelVersion="4.0.0",
        groupId="mess",
        artifactId="kafka-runtime",
        version="1",
        packaging="pom",
    )
    dependencies = ET.SubElement(project, "dependencies")
    for group, artifact, version in ARTIFACTS:
        add(ET.SubElement(dependencies, "dependency"), groupId=group, artifactId=artifact, version=version)
    return ET.tostring(project, encoding="unicode")


def _resolve(maven: str, scratch: Path, report: Report) -> None:
    (scratch / "pom.xml").write_text(maven_project())
    command = [maven, "--batch-mode", "-Dstyle.color=never", "-f", str(scratch / "pom.xml"), COPY_GOAL]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={scratch / 'jars'}"]
    report(f"resolving Apache Kafka {KAFKA_VERSION} with Maven, once")
    fetched = 0
    problem = ""
    with subprocess.Popen(  # noqa: S603 - Maven of the PATH, arguments of our own making
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[INFO] Downloaded") and ".jar" in line:
                fetched += 1
                if fetched % 10 == 0:
                    report(f"resolving Apache Kafka {KAFKA_VERSION}: {fetched} jars fetched")
            elif line.startswith("[ERROR]") and not problem:
                problem = line.removeprefix("[ERROR]").strip()
        if process.wait(MAVEN_TIMEOUT_SECONDS):
            raise KafkaUnavailableError(f"Maven cannot resolve Kafka's jars ({_brief(problem)})")
    if not list((scratch / "jars").glob("kafka_2.13-*.jar")):
        raise KafkaUnavailableError("Maven resolved no Kafka server jar")


def _publish(resolved: Path, jars: Path) -> None:
    try:
        resolved.rename(jars)
    except OSError:
        # Another process finished the same work first; its result is as good.
        if not jars.is_dir():
            raise


def _brief(problem: str) -> str:
    reason = problem.split(" -> ", maxsplit=1)[0] or "no reason given"
    return reason if len(reason) <= 160 else f"{reason[:157]}..."

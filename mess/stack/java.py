"""The machine's Java: where it is and whether it is new enough for Kafka."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from mess.stack.commands import run_command
from mess.stack.errors import StackError

MINIMUM_VERSION = 17

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


class KafkaUnavailableError(StackError):
    """Apache Kafka cannot run on this machine; the message is the reason, for the notice of the fallback."""


def find_java() -> Path:
    """Return the Java launcher to use: JAVA_HOME's, or the one on the PATH.

    Raises:
        KafkaUnavailableError: There is none, it does not start, or it is older than `MINIMUM_VERSION`.
    """
    home = os.environ.get("JAVA_HOME")
    candidate = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    launcher = candidate or shutil.which("java")
    if launcher is None:
        raise KafkaUnavailableError(f"no Java found (Kafka needs Java {MINIMUM_VERSION} or later)")
    try:
        done = run_command([launcher, "-version"], timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaUnavailableError(f"Java at {launcher} does not start") from error
    version = parse_version(done.output)
    if version is None:
        raise KafkaUnavailableError(f"Java at {launcher} does not say its version")
    if version < MINIMUM_VERSION:
        raise KafkaUnavailableError(
            f"Java {version} is too old (Kafka needs Java {MINIMUM_VERSION} or later)"
        )
    return Path(launcher)


def parse_version(text: str) -> int | None:
    """Return the feature release from what `java -version` prints, 8 for "1.8.0_392", or None."""
    match = _VERSION.search(text)
    return int(match.group(1)) if match else None

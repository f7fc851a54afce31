"""A class-data archive (JEP 350), with which Kafka starts sooner: Java maps classes instead of parsing them.

It is written once a machine, by the Java run that formats the first log, and kept beside the jars. Java ignores an archive
of another version or of other jars, so a wrong one only costs time.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class ClassArchive:
    """The archive of one Java and one directory of jars."""

    def __init__(self, java: Path, jars: Path) -> None:
        """Describe it without touching anything.

        Args:
            java: The Java launcher.
            jars: Directory with the jars; the archive stands beside it.
        """
        self._java = java
        self._jars = jars

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        launcher = self._java.resolve()
        try:
            state = launcher.stat()
            version = f"{launcher} {state.st_mtime_ns} {state.st_size}"
        except OSError:
            version = str(launcher)
        name = hashlib.sha256(version.encode()).hexdigest()[:12]
        return self._jars.with_name(f"{self._jars.name}-{name}.jsa")

    def options(self) -> list[str]:
        """Java's options to use it; none if it does not exist."""
        return [f"-XX:SharedArchiveFile={self.path}"] if self.path.is_file() else []

    @contextmanager
    def written(self) -> Iterator[list[str]]:
        """Yield the options of a Java run that writes the archive, or uses it if it is there.

        It gets its name after a successful run. A cache that cannot be written does no harm.
        """
        if options := self.options():
            yield options
            return
        try:
            scratch = tempfile.TemporaryDirectory(dir=self._jars.parent, prefix=".archiving-")
        except OSError:
            yield []
            return
        with scratch as directory:
            made = Path(directory, "classes.jsa")
            yield [f"-XX:ArchiveClassesAtExit={made}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
            with suppress(OSError):
                made.replace(self.path)

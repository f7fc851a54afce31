"""A state file with the position of a run, from which another run can resume."""

import contextlib
import time
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from streams.producers.items import Position, SourceError

_VERSION: Final = 1
_SAVE_EVERY: Final = 1.0

log = structlog.get_logger(__name__)


class Checkpoint:
    """A state file of one run.

    It is replaced at most once a second, by renaming a new file over it. If the folder cannot be written, the run
    continues but cannot be resumed.

    Args:
        path: the state file.
        fingerprint: identifies its source.
    """

    def __init__(self, path: Path, fingerprint: dict[str, Any]) -> None:
        self.path = path
        self.writable = True
        self._fingerprint = fingerprint
        self._saved_at = 0.0

    def load(self) -> Position | None:
        """The position after which to resume; None if there is no state.

        Raises:
            SourceError: the file is damaged, or belongs to another source or another run of its options.
        """
        try:
            state = orjson.loads(self.path.read_bytes())
            position, fingerprint = state["position"], state["source"]
            readable = state["version"] == _VERSION and isinstance(position, int | str | None)
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as exc:
            raise SourceError(f"the state file {self.path} cannot be read ({exc})") from exc
        if not readable:
            raise SourceError(f"the state file {self.path} is of another version")
        for name, value in self._fingerprint.items():
            if fingerprint.get(name) != value:
                raise SourceError(f"{self.path} is the state of another run: its {name} differs")
        return position  # type: ignore[no-any-return]  # checked above

    def note(self, position: Position | None) -> None:
        """Save, unless that was done within the last second."""
        if time.monotonic() - self._saved_at >= _SAVE_EVERY:
            self.save(position)

    def save(self, position: Position | None) -> None:
        """Write the state now."""
        if position is None or not self.writable:
            return
        state = {"version": _VERSION, "source": self._fingerprint, "position": position}
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))
            new.replace(self.path)
        except OSError as exc:
            self.writable = False
            log.warning("this run cannot be resumed", state_file=str(self.path), error=str(exc))
        self._saved_at = time.monotonic()

    def clear(self) -> None:
        """Remove the state: the run is complete."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

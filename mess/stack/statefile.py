"""`stack.json`: what a running local stack tells the programs around it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mess.stack.errors import StackError
from mess.stack.files import write_private

STATE_FILE = "stack.json"


class Pids(BaseModel):
    """Process ids of the stack's parts; None for a part that is not of this stack (an external database)."""

    model_config = ConfigDict(frozen=True)

    api: int | None = None
    workers: list[int] = []
    broker: int | None = None
    postgres: int | None = None


class StackState(BaseModel):
    """Where a running stack's parts are reached.

    `database_url` holds a password, so the file is its owner's alone.
    """

    model_config = ConfigDict(frozen=True)

    http_url: str
    bootstrap_servers: str
    database_url: str
    broker: str
    pids: Pids


def write_state(data_dir: Path, state: StackState) -> None:
    """Write `stack.json` whole, mode 0600."""
    write_private(data_dir / STATE_FILE, state.model_dump_json(indent=2).encode() + b"\n")


def read_state(data_dir: Path) -> StackState | None:
    """Return what `stack.json` says, or None if there is none.

    Raises:
        StackError: It cannot be read.
    """
    path = data_dir / STATE_FILE
    try:
        return StackState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StackError(f"{path} cannot be read") from error


def remove_state(data_dir: Path) -> None:
    """Remove `stack.json`: nothing runs any more."""
    (data_dir / STATE_FILE).unlink(missing_ok=True)

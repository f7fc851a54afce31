"""The process of the local stack that derives the demo catalogue's incipits."""

from __future__ import annotations

import sys
from pathlib import Path

from mess.stack.service import ServiceSpec


def incipit_path(data_dir: Path) -> Path:
    """Where they are kept."""
    return data_dir / "incipits.sqlite"


def incipit_service(data_dir: Path, log: Path, *, stage: int) -> ServiceSpec:
    """The process that derives what is pending, and ends where nothing is or nothing can be."""
    return ServiceSpec(
        name="incipits",
        argv=[sys.executable, "-m", "mess.incipits", str(incipit_path(data_dir))],
        log=log,
        stage=stage,
        stop_grace=2.0,
        optional=True,
        needs_room=True,
    )

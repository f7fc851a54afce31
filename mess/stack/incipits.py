"""The process of the local stack that derives the demo catalogue's incipits, if music21 is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from mess.demo import catalogue
from mess.stack.service import ServiceSpec
from serving.incipits import IncipitFile

MISSING = (
    "To hear and see works, the package music21 is needed, whose corpus they are from: stop, run"
    " `pip install 'mess-ai[demo-build]'`, and start again."
)


def incipit_path(data_dir: Path) -> Path:
    """Where they are kept."""
    return data_dir / "incipits.sqlite"


def prepare_incipits(data_dir: Path, log: Path, *, stage: int) -> ServiceSpec | None:
    """Make the file ready; return the process that derives what is pending, None where nothing is or nothing can be.

    Raises:
        mess.demo.catalogue.CatalogueError: The demo catalogue is missing or damaged.
        OSError, sqlite3.Error: The file cannot be written.
    """
    path = incipit_path(data_dir)
    file = IncipitFile(path)
    there = find_spec("music21") is not None
    file.create(track.track_id for track in catalogue.load_demo_catalogue().tracks)
    path.chmod(0o600)
    file.say_missing(None if there or not file.pending() else MISSING)
    if not there or not file.pending():
        return None
    return ServiceSpec(
        name="incipits",
        argv=[sys.executable, "-m", "mess.incipits", str(path)],
        log=log,
        stage=stage,
        stop_grace=2.0,
        optional=True,
        needs_room=True,
    )

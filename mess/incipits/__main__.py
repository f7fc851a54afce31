"""`python -m mess.incipits FILE`: derive the demo catalogue's incipits that the file lacks, if music21 is installed, and end.

Works that are looked at come first.
A process of the local stack, at the lowest priority. Killed at any moment, it goes on where it was.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import structlog

from mess.demo.catalogue import load_demo_catalogue
from serving.incipits import IncipitFile
from streams.freed import give_memory_back

log = structlog.get_logger("mess.incipits")

MISSING = (
    "To hear and see works, the package music21 is needed, whose corpus they are from: stop, run"
    " `pip install 'mess-ai[demo-build]'`, and start again."
)
_LIMIT_SECONDS = 60.0
_TOLD_EVERY = 1_000


def _step_back() -> None:
    """Leave processor and disk to whoever else wants them."""
    os.nice(19)
    if hasattr(psutil, "IOPRIO_CLASS_IDLE"):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def prepare(file: IncipitFile, path: Path) -> bool:
    """Make the file ready; return whether anything is pending that can be derived."""
    there = find_spec("music21") is not None
    file.create(track.track_id for track in load_demo_catalogue().tracks)
    path.chmod(0o600)
    pending = file.pending() > 0
    file.say_missing(None if there or not pending else MISSING)
    return there and pending


def main(path: Path) -> None:
    """Derive everything that is pending in the file at `path`."""
    _step_back()
    file = IncipitFile(path)
    if not prepare(file, path):
        return
    give_memory_back()
    from mess.incipits.corpus import Corpus  # noqa: PLC0415 -- music21 takes a second to import

    corpus = Corpus()
    log.info("deriving incipits", pending=file.pending())
    done = failed = 0
    while (track_id := file.next_work()) is not None:
        try:
            file.write(track_id, corpus.incipit(track_id, _LIMIT_SECONDS), None)
        # The parser raises whatever a malformed score provokes; the reason is kept for who asks.
        except Exception as error:  # noqa: BLE001
            failed += 1
            file.write(track_id, None, f"{type(error).__name__}: {error}"[:200])
        done += 1
        if done % _TOLD_EVERY == 0:
            log.info("incipits", done=done, failed=failed)
    log.info("every incipit is there", derived=done - failed, failed=failed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

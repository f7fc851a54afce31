"""The Saarland Music Data: what a recording's file name says.

`Beethoven_Op027No1-01_003_20090916-SMD`: composer, work and movement, performer, date. The work is a
catalogue number run together (`BWV849`, `Op027No1`, `HobXVINo52`) or a title (`JeuxDEau`); the movement, a
number or a name, may be absent. See Müller, Konz, Bogler and Arifi-Müller, "Saarland Music Data (SMD)",
ISMIR 2011, late-breaking session.
"""

import re
from datetime import datetime
from typing import Any, Final

from streams.producers.composers import by_surname

DATASET: Final = "smd"
_NAME: Final = re.compile(
    r"(?P<composer>[^\W\d_]+)_(?P<work>[^_-]+)(?:-(?P<movement>[^_]+))?_(?P<performer>\d{3})_(?P<date>\d{8})(?:-SMD)?"
)
_NUMBERED: Final = re.compile(
    r"(?P<catalogue>Op|BWV|WoO|KV|SZ|Hob|D|HWV)(?P<number>\d+|[IVXLC]+(?=No))(?:No(?P<part>\d+))?"
)
_CATALOGUES: Final = {"Op": "Op.", "Hob": "Hob.", "SZ": "Sz."}
_WORD_START: Final = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])")


def parse_name(stem: str) -> dict[str, Any] | None:
    """Return the metadata in a Saarland file name, or None if it is not one.

    Args:
        stem: the name without folder and extension.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        return None
    try:
        recorded = datetime.strptime(found["date"], "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None
    surname = found["composer"]
    composer = by_surname(surname)
    opus = _opus(found["work"])
    work = opus or _words(found["work"])
    movement = found["movement"]
    number, name = (movement.lstrip("0"), None) if movement and movement.isdigit() else (None, movement)
    metadata = {
        "title": work + (f", movement {number}" if number else f": {_words(name)}" if name else ""),
        "composer": surname,
        "composer_full": composer.full if composer else None,
        "era": composer.era if composer else None,
        "opus": opus,
        "movement": number,
        "movement_name": _words(name) if name else None,
        "performer_id": found["performer"],
        "recording_date": recorded.isoformat(),
        "instrument": "piano",
        "dataset_source": DATASET,
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _opus(work: str) -> str | None:
    """Return `Op. 27 No. 1` for `Op027No1`; None for a work that is a title."""
    found = _NUMBERED.fullmatch(work)
    if found is None:
        return None
    number = found["number"].lstrip("0") or "0"
    catalogue = _CATALOGUES.get(found["catalogue"], found["catalogue"])
    part = f" No. {int(found['part'])}" if found["part"] else ""
    return f"{catalogue} {number}{part}"


def _words(run_together: str) -> str:
    return " ".join(_WORD_START.split(run_together))

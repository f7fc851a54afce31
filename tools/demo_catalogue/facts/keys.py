"""Keys as the headers declare them, written one way: "F# minor", "G mixolydian"."""

import re

from mess.demo.corpus.raw import RawWork
from tools.demo_catalogue.features import pitch_class_profile
from tools.demo_catalogue.notes import SAME_MOMENT, Notes
from tools.demo_catalogue.tonality import estimate

MODES = {
    "": "major", "maj": "major", "ion": "major", "m": "minor", "min": "minor", "aeo": "aeolian", "dor": "dorian",
    "phr": "phrygian", "lyd": "lydian", "mix": "mixolydian", "loc": "locrian",
}  # fmt: skip
PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ABC_KEY = re.compile(r"^\s*([A-G])([#b]?)\s*([A-Za-z]*)")
_HUMDRUM_KEY = re.compile(r"^([A-Ga-g])([#-]?):([a-z]*)$")


def abc_key(value: str) -> str | None:
    """Return the key of an ABC `K:` field, or None if it names none."""
    match = _ABC_KEY.match(value)
    if not match or value.strip().lower().startswith(("none", "hp")):
        return None
    return _written(match[1], match[2], match[3])


def humdrum_key(value: str) -> str | None:
    """Return the key of a Humdrum key token such as `G:mix` or `c#:`; capitals are major, as the ionian is."""
    match = _HUMDRUM_KEY.match(value)
    if not match:
        return None
    mode = match[3] or ("" if match[1].isupper() else "m")
    return _written(match[1].upper(), match[2].replace("-", "b"), mode)


def _written(letter: str, accidental: str, mode: str) -> str | None:
    word = mode.lower()
    name = MODES.get(word if word == "m" else word[:3])
    return f"{letter}{accidental} {name}" if name else None


def pitch_class(letter: str, accidental: str) -> int:
    """Pitch class of a written note, 0 for C."""
    return (PITCH_CLASSES[letter] + {"#": 1, "b": -1}.get(accidental, 0)) % 12


def estimated_key(work: RawWork) -> str:
    """Estimate the key from the notes alone."""
    return estimate(pitch_class_profile(Notes.from_raw(work.notes))).name


def final_key(work: RawWork) -> str:
    """Take the lowest note of the last chord for the tonic, and estimate the mode on it.

    A score in parts ends on its tonic far more surely than its profile shows it: profiles often favour the dominant.
    """
    notes = Notes.from_raw(work.notes)
    ends = notes.onset + notes.duration
    last = notes.midi[ends >= ends.max() - SAME_MOMENT]
    return estimate(pitch_class_profile(notes), int(last.min()) % 12).name


def key_on(work: RawWork, value: str) -> str | None:
    """Estimate the mode on the tonic an ABC key names: the Essen songs give the tonic, not the mode."""
    match = _ABC_KEY.match(value)
    if not match:
        return None
    # The German H, which these files use beside B, isn't matched: its songs get the estimate.
    tonic = pitch_class(match[1], match[2])
    return f"{match[1]}{match[2]} {estimate(pitch_class_profile(Notes.from_raw(work.notes)), tonic).mode}"

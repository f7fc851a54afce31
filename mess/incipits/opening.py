"""The first seconds of a work as notes for a loudspeaker: onsets and lengths in milliseconds, MIDI pitches."""

from mess.demo.corpus.raw import RawWork

SECONDS = 10.0
# A beat of a work that names no tempo, and bounds for those that do.
_BEATS_A_MINUTE = 96.0
_SLOWEST, _FASTEST = 30.0, 320.0
# What begins before the end sounds out, but not for long.
_LONGEST_LAST = 1.5


def quarters_a_minute(work: RawWork) -> float:
    """The tempo at the start, in quarter notes a minute: as the work names it, else so that a beat is neither fast nor slow."""
    for offset, rate, _ in work.tempos:
        if offset <= 1e-3 and rate is not None:
            return min(max(rate, _SLOWEST), _FASTEST)
    beat = next((beat for beat in work.notes.beat if beat), 1.0)
    return min(_BEATS_A_MINUTE * beat, _FASTEST)


def opening_parts(work: RawWork, seconds: float = SECONDS) -> list[list[int]]:
    """The parts that sound within the first seconds, each a flat list of onset ms, length ms and MIDI pitch."""
    quarter = 60_000.0 / quarters_a_minute(work)
    notes = work.notes
    start = min(notes.onset)
    parts: dict[int, list[tuple[int, int, int]]] = {}
    for onset, duration, midi, part in zip(notes.onset, notes.duration, notes.midi, notes.part, strict=True):
        began = (onset - start) * quarter
        if began >= seconds * 1000:
            continue
        ended = min(began + duration * quarter, (seconds + _LONGEST_LAST) * 1000)
        parts.setdefault(part, []).append((round(began), max(round(ended - began), 1), midi))
    return [[value for note in sorted(parts[part]) for value in note] for part in sorted(parts)]

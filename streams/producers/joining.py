"""Joining rows of a table to files: by the longest suffix of their paths that is unambiguous.

`A/01 Intro.mp3` of a table is `features/A/01 Intro.npy` of a folder. Names are compared in NFC, with and without the
suffixes of audio and arrays. Numbers are compared as numbers where no name is equal: a table's `2`, or `2.0`, is
`000002.npy`.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

# Suffixes of arrays and of recordings, as alternatives of a regular expression.
_ARRAYS: Final = "npy|npz|h5|hdf5"
RECORDINGS: Final = (
    "wav|wave|mp3|mp2|flac|ogg|oga|opus|m4a|m4b|mp4|aac|aif|aiff|aifc|wma|webm|wv|ape|alac|caf|au|mka|mpc|dsf"
)
_SUFFIX: Final = re.compile(rf"\.(?:{_ARRAYS}|{RECORDINGS}|midi?)$", re.IGNORECASE)
_ARRAY_SUFFIX: Final = re.compile(rf"\.(?:{_ARRAYS})$", re.IGNORECASE)
_NUMBER: Final = re.compile(r"0*(\d+)(?:\.0+)?", re.ASCII)
# Affixes of file names in two data sets that their tables do not have.
_AFFIXES: Final = (("", "-SMD"), ("maestro_", ""))


class _Name(NamedTuple):
    """A path to compare: its folders from the last on, its last part, and that without any suffix."""

    folders: tuple[str, ...]
    last: str
    stem: str


class AmbiguousName(NamedTuple):
    """A file that several rows fit equally well, or that shares its row with another file."""

    candidates: tuple[str, ...]


Match = int | AmbiguousName | None


def stem_of(name: str) -> str:
    """Return the last part of a path without the suffixes of audio and arrays, in NFC."""
    return _name(name).stem


def without_array_suffix(name: str) -> str:
    """Return a file's name without the suffix of an array's file."""
    return _ARRAY_SUFFIX.sub("", name) or name


def _name(path: str) -> _Name:
    plain = unicodedata.normalize("NFC", path.strip()).replace("\\", "/")
    *folders, last = [part for part in plain.split("/") if part not in ("", ".")] or [""]
    stem = last
    while (shorter := _SUFFIX.sub("", stem)) != stem and shorter:
        stem = shorter
    return _Name(tuple(reversed(folders)), without_array_suffix(last), stem)


def _number(stem: str) -> str | None:
    found = _NUMBER.fullmatch(stem)
    return found[1] if found else None


class RowIndex:
    """Finds the rows of a table by the names that they have.

    Args:
        names: (row, name): a path, a file's name or an id; a row may have several.
    """

    def __init__(self, names: Iterable[tuple[int, str]]) -> None:
        self._named: dict[int, str] = {}
        self._by_stem: defaultdict[str, list[tuple[int, _Name]]] = defaultdict(list)
        self._by_number: defaultdict[str, list[tuple[int, _Name]]] = defaultdict(list)
        for row, text in names:
            name = _name(text)
            self._named.setdefault(row, text)
            self._by_stem[name.stem].append((row, name))
            if (number := _number(name.stem)) is not None:
                self._by_number[number].append((row, name))

    def match(self, paths: Sequence[str]) -> list[Match]:
        """Return the row of each path: None where there is none, an `AmbiguousName` where it cannot be told.

        A row is given to the path that shares most of its folders with it. Where several share as many, all of
        them are ambiguous.
        """
        found = [self._best(_name(path)) for path in paths]
        claims: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for at, (score, rows) in enumerate(found):
            if len(rows) == 1:
                claims[rows[0]].append((score, at))
        matches: list[Match] = [None] * len(paths)
        for at, (_, rows) in enumerate(found):
            if len(rows) > 1:
                matches[at] = AmbiguousName(tuple(f"row {self._named[row]}" for row in rows[:2]))
        for row, claimed in claims.items():
            best = max(score for score, _ in claimed)
            winners = [at for score, at in claimed if score == best]
            shared = AmbiguousName(tuple(paths[at] for at in winners[:2]))
            for at in winners:
                matches[at] = row if len(winners) == 1 else shared
        return matches

    def find(self, name: str) -> Match:
        """Return the row of one name, whichever others there are."""
        _, rows = self._best(_name(name))
        if len(rows) > 1:
            return AmbiguousName(tuple(f"row {self._named[row]}" for row in rows[:2]))
        return rows[0] if rows else None

    def _best(self, name: _Name) -> tuple[int, list[int]]:
        """Return how well the best rows fit a name, and these rows."""
        for stem in self._spellings(name.stem):
            if stem in self._by_stem:
                return _closest(name, self._by_stem[stem])
        number = _number(name.stem)
        return _closest(name, self._by_number.get(number, [])) if number is not None else (0, [])

    def _spellings(self, stem: str) -> Iterable[str]:
        yield stem
        for before, behind in _AFFIXES:
            if stem.startswith(before) and stem.endswith(behind):
                yield stem.removeprefix(before).removesuffix(behind)


def _closest(name: _Name, candidates: list[tuple[int, _Name]]) -> tuple[int, list[int]]:
    scores: dict[int, int] = {}
    for row, other in candidates:
        shared = 0
        for ours, theirs in zip(name.folders, other.folders, strict=False):
            if ours != theirs:
                break
            shared += 1
        # `a.wav` and `a.mp3` of a table are told apart by a file `a.mp3.npy`.
        score = 2 * shared + (name.last == other.last)
        scores[row] = max(scores.get(row, -1), score)
    best = max(scores.values(), default=0)
    return best, [row for row, score in scores.items() if score == best]

"""Which files of the corpus are works, and how a file of many works is divided."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".abc", ".krn", ".mxl", ".xml", ".musicxml"}
# The reasons are printed with the build's summary: what is left out is said, not hidden.
SKIPPED_FOLDERS = {
    "demos": "a software demonstration, not a work",
    "theoryExercises": "an exercise, not a work",
    "_metadataCache": "not music",
}
SKIPPED_ENDINGS = {"_old": "a superseded encoding", "_bak": "a superseded encoding"}
# The Essen collection's conversion tests repeat songs that its other files have.
SKIPPED_TESTS = re.compile(r"essenFolksong/test\w\.abc")
BOOK_FOLDERS = {"airdsAirs", "essenFolksong", "miscFolk", "nottingham-dataset", "oneills1850", "ryansMammoth"}
PREFIXES = {
    "essenFolksong": "essen",
    "miscFolk": "folk",
    "nottingham-dataset": "nottingham",
    "airdsAirs": "aird",
}
ONEILL = "oneills1850"
_TUNE = re.compile(r"(?m)^(?=X:)")


@dataclass(frozen=True)
class SourceFile:
    """One corpus file to read: `path` relative to the corpus, `text` for a book of ABC tunes."""

    path: str
    is_book: bool

    @property
    def folder(self) -> str:
        """The corpus folder, which names the collection."""
        return self.path.split("/", 1)[0]


@dataclass(frozen=True)
class Tune:
    """One tune of an ABC book: its `X:` number, its header fields in order, and its text."""

    number: int
    header: tuple[tuple[str, str], ...]
    text: str


def list_files(root: Path) -> tuple[list[SourceFile], list[tuple[str, str]]]:
    """Return the corpus files that hold works, and (path, reason) of the scores left out."""
    chosen: list[SourceFile] = []
    skipped: list[tuple[str, str]] = []
    paths = sorted(p.relative_to(root) for p in root.rglob("*") if p.suffix in SUFFIXES)
    known = {p.with_suffix("").as_posix(): set[str]() for p in paths}
    for path in paths:
        known[path.with_suffix("").as_posix()].add(path.suffix)
    for path in paths:
        reason = _skip_reason(path, known[path.with_suffix("").as_posix()])
        if reason:
            skipped.append((path.as_posix(), reason))
        else:
            chosen.append(SourceFile(path.as_posix(), path.parts[0] in BOOK_FOLDERS))
    return chosen, skipped


def _skip_reason(path: Path, suffixes: set[str]) -> str | None:
    if path.parts[0] in SKIPPED_FOLDERS:
        return SKIPPED_FOLDERS[path.parts[0]]
    for ending, reason in SKIPPED_ENDINGS.items():
        if path.stem.endswith(ending):
            return reason
    if SKIPPED_TESTS.fullmatch(path.as_posix()):
        return "a conversion test: its songs are in the other files"
    if path.suffix != ".mxl" and ".mxl" in suffixes:
        return "the same work is there as .mxl"
    return None


def split_tunes(text: str) -> list[Tune]:
    """Divide an ABC book at its `X:` lines; what comes before the first is the book's own preface."""
    tunes = []
    for chunk in _TUNE.split(text):
        if chunk.startswith("X:"):
            header = read_header(chunk)
            tunes.append(Tune(_tune_number(header), tuple(header), chunk))
    return tunes


def _tune_number(header: list[tuple[str, str]]) -> int:
    """Return a tune's number, from the book it names ("O'Neill's 1646") where its own is 0 or missing."""
    fields = dict(reversed(header))
    own = re.match(r"\d+", fields["X"])
    if own and int(own.group()):
        return int(own.group())
    printed = re.search(r"\d+\s*$", fields.get("B", ""))
    return int(printed.group()) if printed else 0


def read_header(chunk: str) -> list[tuple[str, str]]:
    """Return the ABC fields (letter, value) of a tune, up to and including its key."""
    fields = []
    for line in chunk.splitlines():
        match = re.match(r"([A-Za-z]):(.*)", line)
        if match:
            fields.append((match.group(1), match.group(2).split(" %")[0].strip()))
            if match.group(1) == "K":
                break
    return fields


def read_references(text: str) -> list[tuple[str, str]]:
    """Return the reference records (code, value) of a Humdrum file, and its first key as `key`."""
    records = re.findall(r"(?m)^!!!(\w+):[ \t]*(.*?)\s*$", text)
    key = re.search(r"(?m)(?:^|\t)\*([A-Ga-g][#-]?:[a-z]*)(?:\t|$)", text)
    return records + ([("key", key.group(1))] if key else [])


def work_ids(source: SourceFile, numbers: list[int]) -> list[str]:
    """Name the works of a file: `essen/altdeu10-42`, `oneills1850/0001`, `bach/bwv66.6`.

    A number used twice in one file gets `-2`, `-3` from its second use.
    """
    stem = Path(source.path).with_suffix("").as_posix()
    folder, _, rest = stem.partition("/")
    if not source.is_book:
        return [re.sub(r"\s+", "_", stem)]
    if folder == "ryansMammoth" and len(numbers) == 1:
        return [stem]
    seen: Counter[int] = Counter()
    names = []
    for number in numbers:
        seen[number] += 1
        again = f"-{seen[number]}" if seen[number] > 1 else ""
        names.append(f"{PREFIXES.get(folder, folder)}/{_book_name(folder, rest, number)}{again}")
    return names


def _book_name(folder: str, rest: str, number: int) -> str:
    if folder == ONEILL:
        return f"{number:04d}"
    if folder == "airdsAirs":
        return f"{number:04d}"
    return f"{rest}-{number}"

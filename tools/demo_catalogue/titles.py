"""Titles that the corpus keeps outside the scores: Bach's chorales and Monteverdi's madrigals."""

import re
from pathlib import Path

from music21 import corpus

# Names that stay capitals when a madrigal's title, written in capitals throughout, is put in Italian case.
NAMES = frozenset({"Amarilli", "Clori", "Dio", "Dorinda", "Filli", "Giove", "Mirtillo", "Silvio", "Tirsi"})


def corpus_titles(root: Path) -> dict[str, str]:
    """Return titles by track id."""
    return chorale_titles() | madrigal_titles(root)


def chorale_titles() -> dict[str, str]:
    """Titles from the corpus's lists of chorales, by the BWV numbers of the files."""
    titles: dict[str, str] = {}
    for listed in (corpus.chorales.ChoraleList(), corpus.chorales.ChoraleListRKBWV()):
        for number, entry in listed.byBWV.items():
            titles[f"bach/bwv{number}"] = entry["title"].strip()
    return titles


def madrigal_titles(root: Path) -> dict[str, str]:
    """Titles from the harmonic analyses that lie beside the scores."""
    titles = {}
    for path in sorted((root / "monteverdi").glob("*.rntxt")):
        match = re.search(r"(?m)^Title:\s*(.+?)\s*$", path.read_text("utf-8"))
        if match:
            titles[f"monteverdi/{path.stem}"] = _readable(match[1])
    return titles


def _readable(title: str) -> str:
    title = title.replace("Ohime`", "Ohimè")
    words = re.findall(r"[^\W\d_]+", title)
    if 2 * sum(word[0].isupper() for word in words) < len(words):
        return title
    # The part's name, as in "Terza e Ultima Parte", is no part of the poem's first line.
    title = re.sub(r"\s*((?:Prima|Seconda|Terza|Quarta)(?: e Ultima)? Parte)$", r" (\1)", title)
    lower = re.sub(r"[^\W\d_]+", lambda m: m[0] if m[0] in NAMES else m[0].lower(), title)
    return re.sub(r"^\W*\w|(?<=\()\w", lambda m: m[0].upper(), lower)

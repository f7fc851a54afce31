"""Normalises names for comparison: without case, accents, punctuation and abbreviations."""

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

# Two anonymous works do not have their composer in common.
NOBODY: Final = frozenset(
    {"anonymous", "anon", "anon.", "unknown", "traditional", "trad", "trad.", "various"}
)

# Words that distinguish releases, not works.
_RELEASE = re.compile(
    r"[(\[][^)\]]*\b(?:remaster|live|mono|stereo|version|edit|take|recorded|recording)\w*[^)\]]*[)\]]"
    r"|\s-\s[^-]*\b(?:remaster|live|mono|stereo|version|edit|take)\w*[^-]*$"
)
_SPELLINGS = {"opus": "op", "number": "no", "nr": "no", "num": "no", "nos": "no"}
_WORD = re.compile(r"[^\W\d_]+|\d+")


def plain_text(value: Any) -> str | None:
    """Text for comparison by eye: composed, trimmed, without case; None for what is missing."""
    if value is None:
        return None
    return _plain(str(value)) or None


@lru_cache(maxsize=65_536)
def _plain(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip().casefold()


@lru_cache(maxsize=65_536)
def work_words(value: str) -> str:
    """A title, opus or movement as words, so that "Op.27, No. 2" equals "opus 27 nr 2"; empty if none is left."""
    decomposed = unicodedata.normalize("NFKD", _RELEASE.sub(" ", value.casefold()))
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    words = (_SPELLINGS.get(word, word) for word in _WORD.findall(letters))
    return " ".join(word.lstrip("0") or "0" if word.isdigit() else word for word in words)

"""Why a track is recommended, in a sentence made of facts alone: the one that `streams.strategies` says, to the letter.

Whoever answers, the store or a worker, the reader is told the same; a test holds the two together.
"""

import sys
import unicodedata
from functools import lru_cache

import orjson

from store.reads import Metadata

# (metadata field, how it is said), from the most telling on.
_SHARED = (
    ("composer", "composer"),
    ("form", "form"),
    ("key_signature", "key"),
    ("era", "era"),
    ("instrument", "instrument"),
)
_FIELDS = tuple(field for field, _ in _SHARED)

# Two anonymous works do not have their composer in common.
_NOBODY = frozenset({"anonymous", "anon", "anon.", "unknown", "traditional", "trad", "trad.", "various"})

# Of a similarity and what `ExplanationFacts.shared_with` says, as JSON: "Cosine similarity 0.914; same composer (Bach) and form (fugue)".
SENTENCE = b'"Cosine similarity %.3f%b"'


@lru_cache(maxsize=4096)
def _known(field: str, value: str) -> str:
    """A fact for comparison, its field included; empty if it says nothing."""
    text = unicodedata.normalize("NFC", value).strip().casefold()
    nothing = not text or (field == "composer" and text in _NOBODY)
    # Many tracks have the same facts.
    return "" if nothing else sys.intern(f"{field}:{text}")


class ExplanationFacts:
    """What a track may have in common with others, prepared once for all of them.

    Args:
        values: Composer, form, key, era and instrument.

    Attributes:
        known: Those that say something, for comparison.
    """

    __slots__ = ("_said", "_shared", "known")

    def __init__(self, *values: str | None) -> None:
        self._said = {
            fact: orjson.dumps(f"{said} ({value.strip()})")[1:-1]
            for (field, said), value in zip(_SHARED, values, strict=True)
            if value and (fact := _known(field, value))
        }
        self.known = frozenset(self._said)
        # What was said before, by the facts that are shared.
        self._shared: dict[frozenset[str], bytes] = {}

    def shared_with(self, seed: "ExplanationFacts") -> bytes:
        """Composer, form, key, era and instrument where both have the same, as JSON within quotes, as this track has them.

        Such as "; same composer (Bach) and form (fugue)", what `SENTENCE` ends with; empty where they have nothing in common.
        """
        same = self.known & seed.known
        told = self._shared.get(same)
        if told is None:
            told = self._shared[same] = _listed([said for fact, said in self._said.items() if fact in same])
        return told


@lru_cache(maxsize=4096)
def _facts(*values: str | None) -> ExplanationFacts:
    return ExplanationFacts(*values)


def facts_of(metadata: Metadata) -> ExplanationFacts:
    """What a track may have in common with others: one object for all tracks with the same facts, few as they are."""
    return _facts(*map(metadata.get, _FIELDS))


def _listed(facts: list[bytes]) -> bytes:
    if not facts:
        return b""
    last = facts.pop()
    return b"; same %b and %b" % (b", ".join(facts), last) if facts else b"; same " + last

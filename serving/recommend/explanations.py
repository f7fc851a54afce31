"""Why a track is recommended, in a sentence made of facts alone: the one that `streams.strategies` says, to the letter.

Whoever answers, the store or a worker, the reader is told the same; a test holds the two together.
"""

import sys
from functools import lru_cache

import orjson

from store.reads import Metadata
from streams.strategies import facts

# Of a similarity and what `ExplanationFacts.shared_with` says, as JSON: "Cosine similarity 0.914; same composer (Bach) and form (fugue)".
SENTENCE = b'"Cosine similarity %.3f%b"'


@lru_cache(maxsize=4096)
def _known(field: str, value: str) -> str:
    """A fact for comparison, its field included; empty if it says nothing."""
    text = facts.known(field, value)
    # Many tracks have the same facts.
    return "" if text is None else sys.intern(f"{field}:{text}")


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
            known: orjson.dumps(f"{fact.said} ({value.strip()})")[1:-1]
            for fact, value in zip(facts.FACTS, values, strict=True)
            if value and (known := _known(fact.field, value))
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
    return _facts(*map(metadata.get, facts.FIELDS))


def _listed(said: list[bytes]) -> bytes:
    if not said:
        return b""
    *others, last = said
    return b"; same %b and %b" % (b", ".join(others), last) if others else b"; same " + last

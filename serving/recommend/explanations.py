"""Explains in a sentence why a track of a stored list is recommended, as JSON and from cached parts.

The sentence equals the one of `streams.strategies` for the same tracks, to the letter; a contract test checks it.
"""

import sys
from functools import lru_cache

import orjson

from store.reads import Metadata
from streams.strategies import facts

# As JSON, from a similarity, `aspects_to` and `ExplanationFacts.shared_with`: "Cosine similarity 0.914; same composer (Bach) and form (fugue)".
SENTENCE = b'"Cosine similarity %.3f%b"'


@lru_cache(maxsize=4096)
def _known(field: str, value: str) -> str:
    """A fact for comparison, its field included; empty if it is unknown."""
    text = facts.comparable_value(field, value)
    # Interned, as many tracks have the same facts.
    return "" if text is None else sys.intern(f"{field}:{text}")


class ExplanationFacts:
    """The facts of a track, prepared for comparison with those of others.

    Args:
        values: Composer, form, key, era and instrument.

    Attributes:
        known: The known facts.
    """

    __slots__ = ("_said", "_shared", "known")

    def __init__(self, *values: str | None) -> None:
        self._said = {
            known: orjson.dumps(f"{fact.said} ({value.strip()})")[1:-1]
            for fact, value in zip(facts.FACTS, values, strict=True)
            if value and (known := _known(fact.field, value))
        }
        self.known = frozenset(self._said)
        # Earlier results, by the shared facts.
        self._shared: dict[frozenset[str], bytes] = {}

    def shared_with(self, seed: "ExplanationFacts") -> bytes:
        """The shared facts as text for `SENTENCE`, such as "; same composer (Bach) and form (fugue)", JSON-escaped.

        Values are written as this track has them; the text is empty if nothing is shared.
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
    """The facts of a track; tracks with the same facts share one object."""
    return _facts(*map(metadata.get, facts.FIELDS))


def _listed(said: list[bytes]) -> bytes:
    if not said:
        return b""
    *others, last = said
    return b"; same %b and %b" % (b", ".join(others), last) if others else b"; same " + last

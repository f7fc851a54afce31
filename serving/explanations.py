"""Why a track is recommended, in a sentence made of facts alone: the one that `streams.strategies` says, to the letter.

Whoever answers, the store or a worker, the reader is told the same; a test holds the two together.
"""

import unicodedata
from functools import lru_cache

from store.reads import Metadata

# (metadata field, how it is said), from the most telling on.
_SHARED = (
    ("composer", "composer"),
    ("form", "form"),
    ("key_signature", "key"),
    ("era", "era"),
    ("instrument", "instrument"),
)

# Two anonymous works do not have their composer in common.
_NOBODY = frozenset({"anonymous", "anon", "anon.", "unknown", "traditional", "trad", "trad.", "various"})


@lru_cache(maxsize=4096)
def _known(field: str, value: str | None) -> str:
    """A fact's value for comparison; empty if it says nothing."""
    text = unicodedata.normalize("NFC", value).strip().casefold() if value else ""
    return "" if field == "composer" and text in _NOBODY else text


class Explainer:
    """Explains what is recommended for one track; what it needs of that track is prepared once."""

    def __init__(self, seed: Metadata) -> None:
        self._facts = [
            (field, said, value) for field, said in _SHARED if (value := _known(field, seed.get(field)))
        ]

    def shared(self, other: Metadata) -> list[tuple[str, str]]:
        """(fact, value) for each of composer, form, key, era and instrument that both tracks have, and have the same."""
        return [
            (said, value.strip())
            for field, said, ours in self._facts
            if (value := other.get(field)) and _known(field, value) == ours
        ]

    def similarity(self, other: Metadata, similarity: float) -> str:
        """A sentence such as "Cosine similarity 0.914; same composer (Bach) and form (fugue)"."""
        facts = [f"{said} ({value})" for said, value in self.shared(other)]
        if not facts:
            return f"Cosine similarity {similarity:.3f}"
        listed = facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"
        return f"Cosine similarity {similarity:.3f}; same {listed}"

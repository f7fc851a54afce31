"""Why a track is recommended, in a sentence made of facts alone."""

from store.reads import Metadata

# (metadata field, how it is said), from the most telling on.
_SHARED = (("composer", "composer"), ("form", "form"), ("key_signature", "key"), ("era", "era"))

# Two anonymous works do not have their composer in common.
_NOBODY = frozenset({"anonymous", "anon", "anon.", "unknown", "traditional", "trad", "trad.", "various"})


class Explainer:
    """Explains what is recommended for one track; what it needs of that track is prepared once."""

    def __init__(self, seed: Metadata) -> None:
        self._facts = [
            (field, said, value.casefold())
            for field, said in _SHARED
            if (value := seed.get(field)) and not (field == "composer" and value.casefold() in _NOBODY)
        ]

    def shared(self, other: Metadata) -> list[tuple[str, str]]:
        """(fact, value) for each of composer, form, key and era that both tracks have, and have the same."""
        return [
            (said, value)
            for field, said, ours in self._facts
            if (value := other.get(field)) and value.casefold() == ours
        ]

    def similarity(self, other: Metadata, similarity: float) -> str:
        """A sentence such as "Cosine similarity 0.914; same composer (Bach) and form (fugue)"."""
        facts = [f"{said} ({value})" for said, value in self.shared(other)]
        if not facts:
            return f"Cosine similarity {similarity:.3f}"
        listed = facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"
        return f"Cosine similarity {similarity:.3f}; same {listed}"

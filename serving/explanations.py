"""Why a track is recommended, in a sentence made of facts alone."""

from store.reads import Metadata

# (metadata field, how it is said), from the most telling on.
_SHARED = (("composer", "composer"), ("form", "form"), ("key_signature", "key"), ("era", "era"))

# Two anonymous works do not have their composer in common.
_NOBODY = frozenset({"anonymous", "anon", "anon.", "unknown", "traditional", "trad", "trad.", "various"})


def shared_facts(seed: Metadata, other: Metadata) -> list[tuple[str, str]]:
    """(fact, value) for each of composer, form, key and era that both tracks have, and have the same."""
    facts = []
    for field, said in _SHARED:
        ours, theirs = seed.get(field), other.get(field)
        if not ours or not theirs or ours.casefold() != theirs.casefold():
            continue
        if field == "composer" and ours.casefold() in _NOBODY:
            continue
        facts.append((said, theirs))
    return facts


def explain_similarity(seed: Metadata, other: Metadata, similarity: float) -> str:
    """A sentence such as "Cosine similarity 0.914; same composer (Bach) and form (fugue)"."""
    facts = [f"{said} ({value})" for said, value in shared_facts(seed, other)]
    if not facts:
        return f"Cosine similarity {similarity:.3f}"
    listed = facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"
    return f"Cosine similarity {similarity:.3f}; same {listed}"

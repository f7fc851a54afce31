"""Gives every work its metadata: the facts of its collection, and what is common to all."""

from collections.abc import Iterable, Mapping
from typing import Any

from mess.demo.corpus.raw import RawWork
from mess.demo.corpus.sources import BOOK_FOLDERS
from tools.demo_catalogue.facts import composed, essen, text, traditional

DATASET = "music21-corpus"


def learn_german(works: Iterable[RawWork]) -> dict[str, str]:
    """Learn how the Essen titles write their words, for those that are all in capitals."""
    return text.learn_case(
        title for work in works if work.file.startswith("essen") for title in essen.raw_titles(work)
    )


def describe(
    work: RawWork, learnt: Mapping[str, str], titles: Mapping[str, str], version: str
) -> dict[str, Any]:
    """Return the metadata of a work, keys in a fixed order and none without a value.

    Args:
        work: The parsed work.
        learnt: See `learn_german`.
        titles: Titles from outside the scores, by track id.
        version: music21's version.
    """
    if work.file.startswith("essen"):
        facts = essen.describe_essen(work, learnt)
    elif work.file.split("/")[0] in BOOK_FOLDERS:
        facts = traditional.describe_traditional(work)
    else:
        facts = composed.describe_composed(work, titles)
    facts |= {
        "album": facts["collection"],
        "dataset_source": DATASET,
        "dataset_version": version,
        "parts": len(set(work.notes.part)),
        "notes": len(work.notes.midi),
        "metre": _metre(work),
    }
    facts["tags"] = list(dict.fromkeys(facts["tags"]))
    return {key: facts[key] for key in sorted(facts) if facts[key] not in (None, "", [])}


def _metre(work: RawWork) -> str | None:
    # The parser assumes 4/4 where a file has none: only what stands in the notes' bars is believed.
    return work.metres[0][1] if work.metres and any(bar > 0 for bar in work.notes.bar) else None

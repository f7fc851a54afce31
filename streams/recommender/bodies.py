"""Answers as they travel: from what the strategies chose to JSON."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import orjson

from store.candidates import KnownTrack, StoredList
from streams.kafka.topics import TRACK_INGEST
from streams.recommender.candidates import Gathered
from streams.strategies import Item, Placement, Query, Selection, metrics, registry
from streams.strategies.types import Choice, Floats, Vector

_OPTIONS: Final = orjson.OPT_UTC_Z
_DECIMALS: Final = 6  # what a float32 similarity holds
_HEADLINE: Final = ("title", "composer", "composer_full", "era", "form", "key_signature")


@dataclass(frozen=True, slots=True)
class Body:
    """An answer without the members that change from one delivery to the next.

    Attributes:
        computed: As it is sent once it has been computed.
        kept: As it is sent from the store; None if it isn't kept.
        generated_at: When the list was computed.
        members: Keys of the tracks that it names.
    """

    computed: bytes
    kept: bytes | None
    generated_at: datetime
    members: tuple[int, ...] = ()


def entity_tag(body: bytes) -> str:
    """A weak entity tag: equal tags, equal content."""
    return f'W/"{hashlib.blake2b(body, digest_size=9).hexdigest()}"'


def named(strategy: str, mode: str | None) -> str:
    """A strategy and its mode in one word."""
    return f"{strategy}/{mode}" if mode else strategy


def item_object(
    item: Item, choice: Choice, query: Query, tracks: Mapping[int, KnownTrack], seeds: Mapping[int, str]
) -> dict[str, Any]:
    """One recommendation, `cached` aside."""
    track = tracks[item.key]
    filename = track.metadata["extra"].get("filename")
    several = bool(item.contributions)
    return {
        "track_id": track.track_id,
        "score": round(item.score, _DECIMALS),
        "similarity_score": round(item.similarity, _DECIMALS),
        "rank": item.rank,
        "strategy_used": named(choice.strategy, choice.mode),
        "explanation": item.explanation,
        "components": {name: round(value, _DECIMALS) for name, value in item.components.items()},
        "seed": seeds[query.seeds[item.seed].key] if several and item.seed is not None else None,
        "contributions": {
            seeds[seed.key]: round(value, _DECIMALS)
            for seed, value in zip(query.seeds, item.contributions, strict=False)
        },
        "relaxed": list(item.relaxed),
        **{name: track.metadata[name] for name in _HEADLINE},
        "filename": filename if isinstance(filename, str) else None,
        "tags": track.metadata["tags"],
        "metadata": track.metadata,
    }


def _head(reference: KnownTrack | None, strategy: str, mode: str | None) -> dict[str, Any]:
    return {
        "reference_track": None if reference is None else reference.track_id,
        "reference_metadata": None if reference is None else reference.metadata,
        "strategy": strategy,
        "mode": mode,
    }


def _chosen(choice: Choice) -> dict[str, Any] | None:
    if choice.reason is None:
        return None
    return {"strategy": choice.strategy, "mode": choice.mode, "reason": choice.reason}


def _how(selection: Selection) -> dict[str, Any]:
    """How a list came about."""
    return {
        "chosen": _chosen(selection.choice),
        "relaxed": list(selection.relaxed),
        "stages": [{"stage": stage.stage, "held": stage.held} for stage in selection.stages],
    }


def _source(own: StoredList | None) -> dict[str, Any] | None:
    if own is None:
        return None
    return {
        "topic": TRACK_INGEST,
        "partition": own.source_partition,
        "offset": own.source_offset,
        "event_time": own.event_time,
    }


def recommendations(
    gathered: Gathered,
    *,
    reference: KnownTrack | None,
    asked: tuple[str, str | None],
    seeds: Mapping[int, str],
    own: StoredList | None,
    provisional: bool,
    keep: bool,
    notes: tuple[str, ...] = (),
) -> Body:
    """The answer to a plain request. Takes CPU time: not for the event loop.

    Args:
        gathered: What was chosen, and from what.
        reference: The only track that was asked for.
        asked: The strategy's own name and its mode.
        seeds: Ids of the seeds by key.
        own: The stored list of the reference.
        provisional: Whether it stands in for a list that is not there yet.
        keep: Whether it is to be kept.
        notes: What to say beside the strategies' own notes.
    """
    selection: Selection = gathered.selection
    generated_at = datetime.now(UTC) if gathered.searched or own is None else own.generated_at
    items = [
        item_object(item, selection.choice, gathered.query, gathered.tracks, seeds)
        for item in selection.items
    ]
    head = {
        **_head(reference, *asked),
        **_how(selection),
        "provisional": provisional,
        "notes": [*notes, *selection.notes],
        "source": _source(own),
        "generated_at": generated_at,
    }

    def encoded(cached: bool) -> bytes:
        return orjson.dumps(
            {**head, "recommendations": [{**item, "cached": cached} for item in items]}, option=_OPTIONS
        )

    members = tuple(item.key for item in selection.items)
    return Body(encoded(cached=False), encoded(cached=True) if keep else None, generated_at, members)


def placement(
    gathered: Gathered,
    found: Placement,
    *,
    candidate: KnownTrack,
    similarity: float,
    reference: KnownTrack | None,
    asked: tuple[str, str | None],
    seeds: Mapping[int, str],
) -> Body:
    """Where a candidate stands. Takes CPU time: not for the event loop."""
    selection, generated_at = gathered.selection, datetime.now(UTC)
    item = None
    if found.item is not None:
        tracks = {found.key: candidate}  # it may be none of those gathered
        said = item_object(found.item, selection.choice, gathered.query, tracks, seeds)
        item = {**said, "cached": False}
    body = {
        **_head(reference, *asked),
        **_how(selection),
        "notes": list(selection.notes),
        "generated_at": generated_at,
        "placement": {
            "candidate": candidate.track_id,
            "stage": found.stage,
            "listed": found.stage == "listed",
            "rank": found.rank,
            "detail": found.detail,
            "similarity_score": round(similarity, _DECIMALS),
            "recommendation": item,
            "candidates": len(gathered.pool),
        },
    }
    return Body(orjson.dumps(body, option=_OPTIONS), None, generated_at)


def compared_strategies() -> list[tuple[str, str | None]]:
    """Every strategy in every mode."""
    return [(strategy.name, mode.name) for strategy in registry.STRATEGIES for mode in strategy.modes]


def comparison(
    made: list[tuple[tuple[str, str | None], Gathered]],
    *,
    vectors: Mapping[int, Vector],
    catalogue_size: int,
    reference: KnownTrack | None,
    asked: tuple[str, str | None],
    seeds: Mapping[int, str],
) -> Body:
    """All lists side by side, with what they are worth; `vectors` of what they hold, by key.

    Takes CPU time: not for the event loop.
    """
    generated_at = datetime.now(UTC)
    lists = [_compared(one, gathered, vectors, catalogue_size, seeds) for one, gathered in made]
    keys = {named(*one): gathered.selection.keys for one, gathered in made}
    names = list(keys)
    overlap = [
        {
            "one": one,
            "other": other,
            "jaccard": round(metrics.jaccard(keys[one], keys[other]), _DECIMALS),
            "rank_biased_overlap": round(metrics.rank_biased_overlap(keys[one], keys[other]), _DECIMALS),
        }
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    ]
    body = {
        **_head(reference, *asked),
        "generated_at": generated_at,
        "comparison": {
            "lists": lists,
            "overlap": overlap,
            "coverage": round(metrics.coverage(keys.values(), catalogue_size), 9),
            "candidates": max(len(gathered.pool) for _, gathered in made),
        },
    }
    return Body(orjson.dumps(body, option=_OPTIONS), None, generated_at)


def _compared(
    one: tuple[str, str | None],
    gathered: Gathered,
    vectors: Mapping[int, Vector],
    catalogue_size: int,
    seeds: Mapping[int, str],
) -> dict[str, Any]:
    selection, pool = gathered.selection, gathered.pool
    indices = np.array(selection.indices, dtype=np.intp)
    held = [vectors[key] for key in selection.keys if key in vectors]  # some may have gone since
    shares: Floats | None = pool.probability
    return {
        "strategy": one[0],
        "mode": one[1],
        **_how(selection),
        "recommendations": [
            {**item_object(item, selection.choice, gathered.query, gathered.tracks, seeds), "cached": False}
            for item in selection.items
        ],
        "notes": list(selection.notes),
        "intra_list_diversity": round(metrics.intra_list_diversity(np.array(held)), _DECIMALS),
        "novelty": None if shares is None else round(metrics.novelty(shares[indices]), _DECIMALS),
        "mean_similarity": round(float(pool.similarity[indices].mean()) if len(indices) else 0.0, _DECIMALS),
        "coverage": round(metrics.coverage([selection.keys], catalogue_size), 9),
    }

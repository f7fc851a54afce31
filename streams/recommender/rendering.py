"""Renders answers as JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import orjson

from streams.engine.search.rows import TrackRows
from streams.recommender.catalogue_questions import Body, CatalogueQuestion
from streams.recommender.catalogue_source import CatalogueSource
from streams.recommender.track_json import TrackJson
from streams.strategies import CandidatePlacement, Query, RecommendedItem, Selection, metrics, registry
from streams.strategies.selection import aspects_of
from streams.strategies.types import StrategyChoice, Vectors

_OPTIONS: Final = orjson.OPT_UTC_Z
_DECIMALS: Final = 6  # the precision of a float32 similarity


def mode_label(strategy: str, mode: str | None) -> str:
    """A strategy and its mode in one word."""
    return f"{strategy}/{mode}" if mode else strategy


def compared_strategies() -> list[tuple[str, str | None]]:
    """Every strategy in every mode."""
    return [(strategy.name, mode.name) for strategy in registry.STRATEGIES for mode in strategy.modes]


@dataclass(frozen=True, eq=False, slots=True)
class Chosen:
    """A list with its query and its source."""

    query: Query
    selection: Selection
    source: CatalogueSource


class Renderer:
    """Renders the answers to one question.

    Args:
        tracks: The catalogue.
        written: Their JSON.
        question: The question.
    """

    def __init__(self, tracks: TrackRows, written: TrackJson, question: CatalogueQuestion) -> None:
        self._tracks = tracks
        self._written = written
        self._question = question
        self._now = datetime.now(UTC)
        places = tracks.rows_of(np.array([seed.key for seed in question.query.seeds], dtype=np.int64))
        self._seeds = [tracks.track_ids[row] for row in places.tolist()]

    def recommendations(self, chosen: Chosen) -> Body:
        """The answer to a plain question."""
        question, selection = self._question, chosen.selection
        items = self._items(chosen)
        head = {
            **self._head(),
            **_how(selection),
            "provisional": question.provisional,
            "notes": [*question.notes, *selection.notes],
            "source": question.source,
            "generated_at": self._now,
        }

        def encoded(cached: bool) -> bytes:
            return orjson.dumps({**head, "recommendations": _listed(items, cached=cached)}, option=_OPTIONS)

        members = tuple(item.key for item in selection.items)
        return Body(
            encoded(cached=False),
            encoded(cached=True) if question.keep else None,
            self._now,
            members,
            self._made_from(members) if question.keep else {},
        )

    def _made_from(self, members: Sequence[int]) -> dict[int, int]:
        named = [*members, *([] if self._question.reference is None else [self._question.reference])]
        rows = self._tracks.rows_of(np.array(named, dtype=np.int64))
        return dict(zip(named, self._tracks.offsets[rows].tolist(), strict=True))

    def placement(self, chosen: Chosen, found: CandidatePlacement, row: int) -> Body:
        """The placement of a candidate, the track of a row."""
        item = None
        if found.item is not None:
            (written,) = self._written_items([found.item], chosen.selection.choice)
            item = orjson.Fragment(_closed(written, cached=False))
        similarity = float(chosen.source.similarity(np.array([row]))[0])
        aspects = aspects_of(chosen.query, self._tracks.vectors[[row]])
        body = {
            **self._head(),
            **_how(chosen.selection),
            "notes": list(chosen.selection.notes),
            "generated_at": self._now,
            "placement": {
                "candidate": self._tracks.track_ids[row],
                "stage": found.stage,
                "listed": found.stage == "listed",
                "rank": found.rank,
                "detail": found.detail,
                "similarity_score": round(similarity, _DECIMALS),
                "aspects": aspects[0] if aspects else {},
                "recommendation": item,
                "candidates": len(self._tracks),
            },
        }
        return Body(orjson.dumps(body, option=_OPTIONS), None, self._now)

    def comparison(self, made: Sequence[tuple[tuple[str, str | None], Chosen]]) -> Body:
        """All lists with their measures."""
        keys = {mode_label(*one): chosen.selection.keys for one, chosen in made}
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
        count = len(self._tracks)
        body = {
            **self._head(),
            "generated_at": self._now,
            "comparison": {
                "lists": [self._compared(one, chosen) for one, chosen in made],
                "overlap": overlap,
                "coverage": round(metrics.catalogue_coverage(keys.values(), count), 9),
                "candidates": count,
            },
        }
        return Body(orjson.dumps(body, option=_OPTIONS), None, self._now)

    def _compared(self, one: tuple[str, str | None], chosen: Chosen) -> dict[str, Any]:
        selection = chosen.selection
        pool = chosen.source.candidates(np.array(selection.indices, dtype=np.intp), vectors=True)
        vectors: Vectors = chosen.source.vectors(np.array(selection.indices, dtype=np.intp))
        shares = pool.probability
        mean = float(pool.similarity.mean()) if len(pool) else 0.0
        return {
            "strategy": one[0],
            "mode": one[1],
            **_how(selection),
            "recommendations": _listed(self._items(chosen), cached=False),
            "notes": list(selection.notes),
            "intra_list_diversity": round(metrics.intra_list_diversity(vectors), _DECIMALS),
            "novelty": None if shares is None else round(metrics.list_novelty(shares), _DECIMALS),
            "mean_similarity": round(mean, _DECIMALS),
            "coverage": round(metrics.catalogue_coverage([selection.keys], len(self._tracks)), 9),
        }

    def _items(self, chosen: Chosen) -> list[bytes]:
        return self._written_items(chosen.selection.items, chosen.selection.choice)

    def _written_items(self, items: Sequence[RecommendedItem], choice: StrategyChoice) -> list[bytes]:
        """Recommendations, each as an open JSON object, `cached` aside."""
        used = mode_label(choice.strategy, choice.mode)
        members = self._written.members([item.index for item in items])
        # All at once: numpy rounds far faster than Python does.
        numbers = iter(_rounded([value for item in items for value in _numbers(item)]))
        return [
            b"%b,%b" % (orjson.dumps(self._own(item, used, numbers))[:-1], known)
            for item, known in zip(items, members, strict=True)
        ]

    def _own(self, item: RecommendedItem, used: str, numbers: Iterator[float]) -> dict[str, Any]:
        """What a recommendation says beside the track's own facts; `numbers` are its own, see `_numbers`."""
        several = bool(item.contributions)
        return {
            "track_id": self._tracks.track_ids[item.index],
            "score": next(numbers),
            "similarity_score": next(numbers),
            "aspects": item.aspects,
            "rank": item.rank,
            "strategy_used": used,
            "explanation": item.explanation,
            "components": dict(zip(item.components, numbers, strict=False)),
            "seed": self._seeds[item.seed] if several and item.seed is not None else None,
            "contributions": dict(zip(self._seeds, numbers, strict=False)) if several else {},
            "relaxed": item.relaxed,
        }

    def _head(self) -> dict[str, Any]:
        reference, metadata = None, None
        if self._question.reference is not None:
            (row,) = self._tracks.rows_of(np.array([self._question.reference], dtype=np.int64)).tolist()
            reference, metadata = self._tracks.track_ids[row], self._written.metadata(row)
        strategy, mode = self._question.asked
        return {
            "reference_track": reference,
            "reference_metadata": metadata,
            "strategy": strategy,
            "mode": mode,
            "weights": self._question.query.weights,
        }


def _numbers(item: RecommendedItem) -> Iterable[float]:
    """The numbers of an item, in the order in which it is written."""
    return (item.score, item.similarity, *item.components.values(), *item.contributions)


def _rounded(values: Sequence[float]) -> list[float]:
    rounded: list[float] = np.array(values, dtype=np.float64).round(_DECIMALS).tolist()
    return rounded


def _closed(item: bytes, *, cached: bool) -> bytes:
    return b'%b,"cached":%b}' % (item, b"true" if cached else b"false")


def _listed(items: Sequence[bytes], *, cached: bool) -> orjson.Fragment:
    return orjson.Fragment(b"[%b]" % b",".join(_closed(item, cached=cached) for item in items))


def _how(selection: Selection) -> dict[str, Any]:
    """How a list came about."""
    choice = selection.choice
    chosen = {"strategy": choice.strategy, "mode": choice.mode, "reason": choice.reason}
    return {
        "chosen": None if choice.reason is None else chosen,
        "relaxed": list(selection.relaxed),
        "stages": [{"stage": stage.stage, "held": stage.held} for stage in selection.stages],
    }

"""Answers questions in the process that holds the catalogue: search, filters, strategies and rendering in one call."""

import traceback
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import cast

import numpy as np

from store.columns import METADATA_FIELDS
from streams.engine.piped import IdleDuty
from streams.engine.search.masked import MaskedSearch
from streams.engine.search.process import SearchProcess, tended_searcher
from streams.engine.search.searcher import Searcher
from streams.engine.search.types import SearchSettings
from streams.engine.types import EMPTY, Keys
from streams.recommender.catalogue_questions import (
    Body,
    CatalogueAnswer,
    CatalogueQuestion,
    FailedQuestion,
    RefusedQuestion,
    UnknownTracks,
)
from streams.recommender.catalogue_source import CatalogueSource, FieldIndexes
from streams.recommender.popularity import ListFacts, Popularity
from streams.recommender.rendering import Chosen, Renderer, compared_strategies
from streams.recommender.track_json import TrackJson
from streams.strategies import InvalidQuery, Query, Seed, explain_candidate, select_list
from streams.strategies.seeds import combine_seeds


class QuestionAnswerer(Searcher):
    """Answers questions from the catalogue's vectors and metadata. Not thread-safe.

    Args:
        dimension: d of the vectors.
        settings: How it searches.
    """

    def __init__(self, dimension: int, settings: SearchSettings) -> None:
        super().__init__(dimension, settings, fields=METADATA_FIELDS)
        self._indexes = FieldIndexes(self.tracks)
        self._written = TrackJson(self.tracks)
        self._popularity = Popularity()
        self._facts = ListFacts()

    def know_popularity(self, popularity: Popularity) -> None:
        """Use this popularity from now on."""
        self._popularity = popularity

    def know_lists(self, facts: ListFacts) -> None:
        """Use these statistics of the stored lists from now on."""
        self._facts = facts

    def answer(self, question: CatalogueQuestion) -> CatalogueAnswer:
        """See `AnswerProcess.answer`; a defect ends only the question that triggers it."""
        try:
            with self._timed("answer"):
                return self._answered(question)
        except InvalidQuery as error:
            return RefusedQuestion(error.field, error.reason)
        except Exception:  # noqa: BLE001 -- all others have yet to be answered; whoever asked logs it
            return FailedQuestion(traceback.format_exc())

    def _answered(self, question: CatalogueQuestion) -> CatalogueAnswer:
        query = question.query
        named = [track.key for track in (*query.seeds, *query.negatives)]
        named += [key for key in (question.reference, question.candidate) if key is not None]
        rows = dict(zip(named, self.tracks.rows_of(np.array(named, dtype=np.int64)).tolist(), strict=True))
        unknown = tuple(key for key, row in rows.items() if row == EMPTY)
        if unknown:
            return UnknownTracks(unknown)
        query = self._with_tracks(query, rows)
        source = self._source(query, question.neighbours)
        renderer = Renderer(self.tracks, self._written, question)
        if question.compare:
            asked = [(one, query.with_strategy(*one, {})) for one in compared_strategies()]
            return renderer.comparison(
                [(one, Chosen(each, select_list(source, each), source)) for one, each in asked]
            )
        chosen = Chosen(query, select_list(source, query), source)
        if question.candidate is not None:
            found = explain_candidate(source, query, question.candidate)
            return renderer.placement(chosen, found, rows[question.candidate])
        body = renderer.recommendations(chosen)
        return replace(body, popularity=self._popularity.version)

    def _source(self, query: Query, neighbours: Keys | None) -> CatalogueSource:
        dimension = self.tracks.dimension
        if query.embedding is not None and len(query.embedding) != dimension:
            has = f"has {len(query.embedding)} components; this catalogue has {dimension}"
            raise InvalidQuery("embedding", has)
        known = self._known(neighbours).astype(np.intp)
        sought = combine_seeds(query)
        search = MaskedSearch(self, sought.vector, known)
        return CatalogueSource(
            self.tracks, self._indexes, search, self._popularity, self._facts, scale=sought.scale
        )

    def _with_tracks(self, query: Query, rows: Mapping[int, int]) -> Query:
        """The question with the vectors and metadata of its seeds and negatives."""

        def known(track: Seed) -> Seed:
            row = rows[track.key]
            return replace(
                track, vector=self.tracks.vectors[row].copy(), metadata=self.tracks.metadata.row(row)
            )

        return replace(
            query, seeds=tuple(map(known, query.seeds)), negatives=tuple(map(known, query.negatives))
        )


def _build(connection: Connection, dimension: int, settings: SearchSettings) -> tuple[Searcher, IdleDuty]:
    return tended_searcher(connection, QuestionAnswerer(dimension, settings))


class AnswerProcess(SearchProcess):
    """A search process that answers whole questions.

    Args:
        dimension: d of the vectors.
        settings: How it searches.
    """

    def __init__(self, dimension: int, *, settings: SearchSettings | None = None) -> None:
        super().__init__(dimension, settings=settings, build=_build)

    async def know_popularity(self, popularity: Popularity) -> None:
        """Use this popularity for later questions."""
        await self._call("know_popularity", popularity)

    async def know_lists(self, facts: ListFacts) -> None:
        """Use these statistics of the stored lists for later questions."""
        await self._call("know_lists", facts)

    async def answer(self, question: CatalogueQuestion) -> CatalogueAnswer:
        """The answer to a question: a body, or why there is none.

        Raises:
            SearchStoppedError: The process is gone.
        """
        return cast(
            "Body | UnknownTracks | RefusedQuestion | FailedQuestion", await self._call("answer", question)
        )

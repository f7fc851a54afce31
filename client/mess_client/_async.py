"""The asynchronous client, from which `tools/sync_client.py` writes the synchronous one."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Self, TypeVar, Unpack

import httpx
from pydantic import BaseModel

from mess_client import models
from mess_client._async_changes import AsyncChangeStream
from mess_client.errors import MessClientError, ProblemError, UnexpectedAnswerError, problem_error
from mess_client.questions import (
    BatchResults,
    Call,
    Question,
    QuestionOptions,
    Seed,
    given_parameters,
    question_body,
    question_call,
    track_path,
    weights_text,
)
from mess_client.retrying import Retries, connection_error, parse_answer, parse_part

Model = TypeVar("Model", bound=BaseModel)


class AsyncMessClient:
    """Reads from an API: recommendations, the catalogue, changes.

    Methods whose answer depends on embeddings take `space`: which ones; those of the space `default` if it is not given.

    Every method raises a `MessClientError`: a `ProblemError` where the API refuses, `ConnectionFailedError` where it cannot
    be reached, `UnexpectedAnswerError` where something else answers. What may pass is tried again first.

    Args:
        url: Where the API is, such as `http://127.0.0.1:8000`.
        key: Sent with every request, where the API requires keys.
        timeout: Seconds that one attempt may take to connect, and then between two parts of its answer.
        retries: How often and after how long a request is tried again.
        trust_env: Whether proxies and certificates that the environment configures are used.
        transport: Carries requests in place of the network, such as `httpx.ASGITransport`.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 10.0,
        retries: Retries | None = None,
        trust_env: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=timeout,
            trust_env=trust_env,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def recommend(self, track_id: str, **options: Unpack[QuestionOptions]) -> models.Recommendations:
        """What is most like a track, or what another strategy recommends for it.

        Args:
            track_id: The track.
            options: `top_k`, `strategy`, `exclude`, `filters` and so on. `min_offset` is partition and offset of one's own
                event of the ingest topic: the answer has taken it in.
        """
        return await self._read(question_call({"track_id": track_id, **options}), models.Recommendations)

    async def recommended_as_of(
        self, track_id: str, as_of: datetime | int, *, top_k: int | None = None
    ) -> models.PastRecommendations:
        """A track's stored list as it was.

        Args:
            track_id: The track, which may have been deleted since.
            as_of: A time with its zone, or the version of a list.
            top_k: How many tracks.
        """
        moment = str(as_of) if isinstance(as_of, int) else as_of.isoformat()
        asked = given_parameters(as_of=moment, top_k=top_k)
        return await self._read(
            Call("GET", f"/recommend/{track_path(track_id)}", asked), models.PastRecommendations
        )

    async def recommend_for(
        self,
        *,
        seeds: Sequence[Seed] | None = None,
        embedding: Sequence[float] | Mapping[str, str] | None = None,
        **options: Unpack[QuestionOptions],
    ) -> models.Recommendations:
        """What is most like several weighted tracks together, or like any vector; give one of the two."""
        started = given_parameters(seeds=seeds, embedding=embedding)
        call = Call("POST", "/recommend", json={**started, **question_body({**options})})
        return await self._read(call, models.Recommendations)

    async def recommend_many(
        self, questions: Sequence[Question]
    ) -> list[models.Recommendations | ProblemError]:
        """Answers to up to a hundred questions, in their order; the exception in its place where one is refused."""
        body = {"requests": [question_body(question) for question in questions]}
        found = await self._read(Call("POST", "/recommend/batch", json=body), BatchResults)
        return [problem_error(each) or parse_part(each, models.Recommendations) for each in found.results]

    async def explain(
        self, seed: str, candidate: str, **options: Unpack[QuestionOptions]
    ) -> models.Explanation:
        """Where a track stands among the recommendations for another, or which stage dropped it, and why."""
        body = question_body({"track_id": seed, **options}) | {"candidate": candidate}
        return await self._read(Call("POST", "/recommend", json=body), models.Explanation)

    async def compare(
        self,
        track_id: str,
        *,
        top_k: int | None = None,
        weights: Mapping[str, float] | None = None,
        space: str | None = None,
    ) -> models.ComparedStrategies:
        """Every strategy's list for a track side by side; `weights` says how much each aspect counts."""
        weighed = None if weights is None else weights_text(weights)
        asked = given_parameters(top_k=top_k, weights=weighed, space=space)
        call = Call("GET", f"/recommend/{track_path(track_id)}/compare", asked)
        return await self._read(call, models.ComparedStrategies)

    async def tracks(
        self,
        *,
        composer: str | None = None,
        era: str | None = None,
        form: str | None = None,
        search: str | None = None,
        space: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[models.CatalogueTrack]:
        """The tracks of the catalogue in the order of their ids, of a search the best first; pages are read as needed."""
        cursor = None
        while True:
            page = await self.tracks_page(
                composer=composer,
                era=era,
                form=form,
                search=search,
                space=space,
                limit=page_size,
                cursor=cursor,
            )
            for track in page.tracks:
                yield track
            if (cursor := page.next) is None:
                return

    async def tracks_page(
        self,
        *,
        composer: str | None = None,
        era: str | None = None,
        form: str | None = None,
        search: str | None = None,
        space: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.CataloguePage:
        """One page of the catalogue, and how many tracks all pages have; `cursor` is `next` of the one before."""
        params = given_parameters(
            composer=composer, era=era, form=form, search=search, space=space, limit=limit, cursor=cursor
        )
        return await self._read(Call("GET", "/tracks", params), models.CataloguePage)

    async def track(self, track_id: str, *, space: str | None = None) -> models.CatalogueRecord:
        """A track: its metadata, the event that it came from, the state of its list."""
        call = Call("GET", f"/tracks/{track_path(track_id)}", given_parameters(space=space))
        return await self._read(call, models.CatalogueRecord)

    async def metadata(self, track_id: str, *, space: str | None = None) -> models.Metadata:
        """What the catalogue says of a track."""
        call = Call("GET", f"/tracks/{track_path(track_id)}/metadata", given_parameters(space=space))
        return await self._read(call, models.Metadata)

    async def composers(
        self, *, limit: int | None = None, space: str | None = None
    ) -> models.ComposersAnswer:
        """Composers with the number of their tracks."""
        call = Call("GET", "/composers", given_parameters(limit=limit, space=space))
        return await self._read(call, models.ComposersAnswer)

    async def tags(self, *, limit: int | None = None, space: str | None = None) -> models.TagsAnswer:
        """Tags with the number of their tracks."""
        call = Call("GET", "/tags", given_parameters(limit=limit, space=space))
        return await self._read(call, models.TagsAnswer)

    async def map_points(
        self, *, after: int = 0, field: str | None = None, page_size: int = 20_000, space: str | None = None
    ) -> AsyncIterator[models.MapPoints]:
        """The map, a page of points at a time; the `next` of the last page is the `after` that brings what has changed since.

        Each generation has a map of its own. If another one serves meanwhile, its whole map follows.

        Args:
            after: Where to begin; 0: with everything.
            field: A metadata field whose value each point brings.
            page_size: Points on a page.
            space: The space whose map it is.
        """
        before: int | None = None
        while True:
            params = given_parameters(after=after, field=field, limit=page_size, space=space)
            page = await self._read(Call("GET", "/map", params), models.MapPoints)
            if before not in (None, page.generation):
                after, before = 0, None
                continue
            before = page.generation
            yield page
            if not page.more:
                return
            after = page.next

    async def strategies(self) -> models.StrategyOffers:
        """How recommendations can be chosen."""
        return await self._read(Call("GET", "/strategies"), models.StrategyOffers)

    async def spaces(self) -> models.ServingSpaces:
        """Which spaces there are to read from."""
        return await self._read(Call("GET", "/spaces"), models.ServingSpaces)

    async def health(self, *, detailed: bool = False, space: str | None = None) -> models.Health:
        """Whether reads can be answered; one that is `down` is an answer, too, and no exception.

        Args:
            detailed: Whether to report everything.
            space: The space that a detailed report is of.
        """
        path = "/health/detailed" if detailed else "/health/ready"
        call = Call("GET", path, given_parameters(space=space))
        return parse_answer(await self._once(call), models.Health, also=503)

    def changes(self, *, space: str | None = None, last_event_id: str | None = None) -> AsyncChangeStream:
        """Every list as it changes; with `last_event_id` first what has changed since that event."""
        call = Call("GET", "/changes", given_parameters(space=space))
        return AsyncChangeStream(self._http, call, self._retries, last_event_id)

    def track_changes(
        self, track_id: str, *, space: str | None = None, last_event_id: str | None = None
    ) -> AsyncChangeStream:
        """One track's list as it changes, whole."""
        call = Call("GET", f"/recommend/{track_path(track_id)}/stream", given_parameters(space=space))
        return AsyncChangeStream(self._http, call, self._retries, last_event_id)

    async def _read(self, call: Call, model: type[Model]) -> Model:
        attempt = 0
        while True:
            attempt += 1
            try:
                return parse_answer(await self._once(call), model)
            except MessClientError as error:
                wait = self._retries.wait_after(attempt, error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _once(self, call: Call) -> httpx.Response:
        try:
            return await self._http.request(call.method, call.path, params=call.params, json=call.json)
        except httpx.TransportError as error:
            raise connection_error(error, str(self._http.base_url)) from error
        except httpx.RequestError as error:
            raise UnexpectedAnswerError(f"{self._http.base_url} sent what cannot be read: {error}") from error

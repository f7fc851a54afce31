"""`POST /recommend`, batches, comparisons and explanations: what a URL cannot say, or only the workers know."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import orjson
import structlog
from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from serving import problems
from serving.context import ApiContext, context_of
from serving.models import (
    MAX_BATCH,
    BatchResponse,
    ComparisonResponse,
    ExplanationResponse,
    RecommendationBody,
    SpaceQuery,
    problem_responses,
)
from serving.parameters import NoParameters, QueryReader
from serving.problems import ApiProblemError
from serving.reading import WaitingRoute, add_read
from serving.recommend import replies
from serving.recommend.playlists import wanted_format
from serving.recommend.questions import (
    DOTTED,
    ExplainQuery,
    ReadQuestion,
    WeightsParameter,
    asked_by,
    checked_request,
    in_query_terms,
    question_of,
)
from serving.recommend.service import ReadAnswer
from serving.routes.recommend import PLAYLISTS, RecommendRoute, TrackIdPath, response_of
from serving.spaces import settled_context, spaces_of
from serving.workers.client import question_fields
from store.errors import StoreUnavailableError
from streams.contracts import DEFAULT_TOP_K, MAX_TOP_K, WHOLE, RecommendationQuery, json_kind
from streams.single_flight import SingleFlight
from streams.strategies.aspects import parse_weights

logger = structlog.get_logger("serving")

_UNREAD = {"cache-control": "no-store"}
# Entries of one batch that are worked on at the same time: a batch may not take every connection to the store, nor every
# place among the requests to the workers.
_AT_ONCE = 6
_ASKED_AT_ONCE = 16


class CompareQuery(SpaceQuery):
    """Parameters of a comparison."""

    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="Tracks in each list.")
    weights: WeightsParameter = None


async def _json(request: Request) -> Any:
    """A request's body; a query string could be taken for a part of it, and is refused."""
    _NOTHING.read(request.scope["query_string"])
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise problems.invalid_parameters_problem([("body", f"is not JSON: {error}")]) from None


def _question(asked: Any) -> ReadQuestion:
    if not isinstance(asked, dict):
        raise problems.invalid_parameters_problem([(WHOLE, f"must be a JSON object, not {json_kind(asked)}")])
    return question_of(checked_request(asked))


async def _answered(context: ApiContext, asked: ReadQuestion, began: float) -> ReadAnswer:
    track_id = asked.query.track_id
    # Only answers for one track are found in memory: others need no key.
    target = b""
    if track_id is not None:
        target = b"POST " + orjson.dumps(question_fields(asked.query), option=orjson.OPT_SORT_KEYS)
    answer = await context.recommending.answer(target, track_id, asked, began)
    context.metrics.read_from(answer.source)
    return answer


async def ask(request: Request) -> Response:
    """Recommendations for a track, several weighted tracks, or any vector.

    What `GET /recommend/{track_id}` would read is read here too; all else is asked of the workers.
    """
    began = time.perf_counter()
    wanted = wanted_format(request.headers.get("accept", ""))
    question = _question(await _json(request))
    context = await settled_context(request.scope, began, question.query.space)
    return response_of(await _answered(context, question, began), wanted)


async def ask_many(request: Request) -> Response:
    """Up to a hundred requests in one; each is answered with a body or a problem document, in their order."""
    asked = await _json(request)
    entries = asked.get("requests") if isinstance(asked, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BATCH:
        raise problems.invalid_parameters_problem(
            [("requests", f"must be a list of 1 to {MAX_BATCH} requests")]
        )
    if asked.keys() != {"requests"}:
        unknown = sorted(asked.keys() - {"requests"})
        raise problems.invalid_parameters_problem([(name, "is not a member of a batch") for name in unknown])
    # Identical entries are answered once.
    alike = SingleFlight[bytes, bytes | ApiProblemError]()
    with _Batch(request).held() as batch:
        found = await asyncio.gather(
            *(alike.run(_alike(entry, at), partial(batch.answer, entry)) for at, entry in enumerate(entries))
        )
    instance = problems.instance_of(request.scope)
    results = [_told(each, f"{instance}#{at}") for at, each in enumerate(found)]
    return Response(b'{"results":[' + b",".join(results) + b"]}", headers=_UNREAD, media_type=replies.JSON)


def _alike(entry: Any, at: int) -> bytes:
    """What entries have in common that ask the same, however they are written; of one that JSON cannot hold, its place."""
    try:
        return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than is written, though not than is read
        return b"#%d" % at


class _Batch:
    """One batch: a context for each space, so that no two answers of one space are of two generations, and its limits.

    Args:
        request: The batch's.
    """

    def __init__(self, request: Request) -> None:
        context = context_of(request)
        self._spaces = spaces_of(request)
        self._began = time.perf_counter()
        self._contexts: dict[str, ApiContext] = {}
        self._looks = SingleFlight[str, ApiContext]()
        self._stored, self._asked = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_ASKED_AT_ONCE)
        # A batch takes no longer than one answer may: entries that have had no place by then have none.
        self._bound = context.recommending.bound
        self._deadline = asyncio.get_running_loop().time() + self._bound

    @contextmanager
    def held(self) -> Iterator["_Batch"]:
        """Count as a request with each of the contexts, until the end of a block."""
        try:
            yield self
        finally:
            for context in self._contexts.values():
                context.requests -= 1

    async def answer(self, asked: Any) -> bytes | ApiProblemError:
        """The body or the problem of an entry."""
        try:
            wanted = _question(asked)
            stored = wanted.listed or wanted.variant is not None
            async with asyncio.timeout_at(self._deadline), self._stored if stored else self._asked:
                context = await self._context(wanted.query.space)
                return (await _answered(context, wanted, time.perf_counter())).body
        except ApiProblemError as problem:
            return problem
        except StoreUnavailableError:
            return problems.store_unavailable_problem()
        except TimeoutError:
            return problems.no_reply(self._bound)
        except Exception:  # one entry's defect is not the others'
            logger.exception("an entry of a batch failed")
            return problems.internal_problem(structlog.contextvars.get_contextvars().get("request_id", ""))

    async def _context(self, space: str) -> ApiContext:
        found = self._contexts.get(space)
        return found or await self._looks.run(space, lambda: self._look(space))

    async def _look(self, space: str) -> ApiContext:
        context = self._contexts[space] = await self._spaces.settled(space, self._began)
        context.requests += 1
        return context


def _told(found: bytes | ApiProblemError, instance: str) -> bytes:
    return found if isinstance(found, bytes) else orjson.dumps(problems.problem_document(found, instance))


async def compare_route(
    request: Request, track_id: TrackIdPath, query: Annotated[CompareQuery, Query()]
) -> Response:
    """Every strategy's list for a track side by side: diversity, novelty and coverage of each, and how they overlap."""
    weights = None if query.weights is None else parse_weights(query.weights)
    wanted = RecommendationQuery(
        space=query.space, track_id=track_id, top_k=query.top_k, weights=weights, compare=True
    )
    return await _computed(request, wanted)


async def explain_route(
    request: Request,
    query: Annotated[ExplainQuery, Query()],
) -> Response:
    """Where a track stands among the recommendations for another, or which stage dropped it, and why.

    Takes every parameter of `/recommend/{track_id}`, `extra.<key>` included.
    """
    asked, dotted = _EXPLAIN.read_all(request.scope["query_string"])
    started = asked_by(asked, dotted, track_id=asked.seed, candidate=asked.candidate)
    with in_query_terms(track_id="seed"):
        return await _computed(request, checked_request(started))


_EXPLAIN = QueryReader(ExplainQuery, dotted=DOTTED)
_NOTHING = QueryReader(NoParameters)


async def _computed(request: Request, query: RecommendationQuery) -> Response:
    context = await settled_context(request.scope, time.perf_counter(), query.space)
    body = await context.recommending.ask(query)
    context.metrics.read_from("workers")
    return Response(body, headers=_UNREAD, media_type=replies.JSON)


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that the route reads itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def register(app: FastAPI) -> None:
    """Add this module's paths; those that end in a word of ours come before the track ids that could."""
    for path, endpoint, summary, model, asked in (
        ("/recommend", ask, "Recommend by any question", RecommendationBody, RecommendationQuery),
        ("/recommend/batch", ask_many, "Ask many questions at once", BatchResponse, None),
    ):
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            tags=["recommendations"],
            summary=summary,
            response_model=model,
            responses={200: {"content": PLAYLISTS}, **problem_responses(404, 406, 413, 422, 503, 504)}
            if asked
            else problem_responses(413, 422),
            openapi_extra=_body_of(asked) if asked else _BATCH_BODY,
        )
    add_read(
        app,
        "/recommend/{track_id:path}/compare",
        compare_route,
        route=WaitingRoute,
        tags=["recommendations"],
        summary="Compare the strategies for a track",
        response_model=ComparisonResponse,
        responses=problem_responses(404, 422, 503, 504),
    )
    add_read(
        app,
        "/explain",
        explain_route,
        route=RecommendRoute,
        tags=["recommendations"],
        summary="Explain why a track is recommended, or why not",
        response_model=ExplanationResponse,
        responses=problem_responses(404, 422, 503, 504),
    )


_BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["requests"],
                    "additionalProperties": False,
                    "properties": {
                        "requests": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_BATCH,
                            "items": {
                                "description": "A request; whatever else stands here is answered with a problem in its place.",
                                "anyOf": [{"$ref": "#/components/schemas/RecommendationQuery"}, {}],
                            },
                        }
                    },
                }
            }
        },
    }
}

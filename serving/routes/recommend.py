"""`GET /recommend/{track_id}`: what is most like a track."""

import time
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from serving.context import context_of
from serving.models import RecommendationBody, problem_responses
from serving.reading import WaitingRoute, add_read
from serving.recommend import replies
from serving.recommend.questions import RecommendQuery, in_query_terms
from serving.recommend.service import ReadAnswer
from streams.contracts import TrackId

TrackIdPath = Annotated[
    TrackId,
    Path(description="The track's id, percent-encoded (`/` as `%2F`).", examples=["bach/bwv66.6"]),
]


def target_of(request: Request) -> bytes:
    """Path and query exactly as they came: what memory keeps an answer under."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def response_of(answer: ReadAnswer, if_none_match: str = "") -> Response:
    """An answer as it is sent: with its entity tag where it was read, never to be kept where it was computed."""
    if not answer.tag:
        return Response(answer.body, headers={"cache-control": "no-store"}, media_type=replies.JSON)
    tag = answer.tag.decode()
    headers = {"etag": tag, "cache-control": "no-cache"}
    if replies.matches_tag(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(answer.body, headers=headers, media_type=replies.JSON)


async def recommend(
    request: Request,
    track_id: TrackIdPath,
    query: Annotated[RecommendQuery, Query()],
) -> Response:
    """Recommendations for a track.

    What is stored is read, from memory or from the store; what is not (other parameters than anybody asked for lately,
    a track whose list isn't there yet) is asked of the workers. `cached` tells which, `source` which event changed the
    list last, `stale` whether something has happened since that it has not taken in, `provisional` that it was searched
    for because the list is not there yet. Besides those below, `extra.<key>`, `extra.<key>_not`, `extra.<key>_min` and
    `extra.<key>_max` filter on other metadata, by its key. A `parameters.<name>` is for the strategies that it names.
    The `ETag` of a stored answer changes exactly when it does (`computation_time_ms` aside).
    """
    began = time.perf_counter()
    context = context_of(request)
    question = context.questions.read(request.scope["query_string"])
    with in_query_terms():
        answer = await context.recommending.answer(target_of(request), track_id, question, began)
    context.metrics.read_from(answer.source)
    return response_of(answer, request.headers.get("if-none-match", ""))


class RecommendRoute(WaitingRoute):
    """The route of `recommend`, which reads its own query string: most are remembered."""

    reads_query = False


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/recommend/{track_id:path}",
        recommend,
        route=RecommendRoute,
        tags=["recommendations"],
        summary="Recommend tracks for a track",
        response_model=RecommendationBody,
        responses={
            304: {"description": "The body is still the one that `If-None-Match` names"},
            **problem_responses(404, 422, 503, 504),
        },
    )

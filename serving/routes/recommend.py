"""`/recommend`: what is most like a track."""

import time
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from serving import problems, replies, strategies
from serving.context import context_of
from serving.models import RecommendationBody, RecommendQuery, problem_responses
from serving.reading import add_read
from store import reads

TrackIdPath = Annotated[
    str,
    Path(description="The track's id, percent-encoded (`/` as `%2F`).", examples=["bach/bwv66.6"]),
]


async def recommend(
    request: Request, track_id: TrackIdPath, query: Annotated[RecommendQuery, Query()]
) -> Response:
    """The tracks most like a track, from its stored list.

    Nothing is computed here: the list is kept up to date as tracks arrive, change and go. `source` says which
    event changed it last, `stale` whether events have been accepted that it has not taken in yet.
    The `ETag` changes exactly when the body does (`computation_time_ms` aside).
    """
    began = time.perf_counter()
    context = context_of(request)
    strategy = strategies.resolve(query.strategy, query.mode)
    found = await reads.fetch_neighbours(context.pool, track_id, limit=query.top_k, exclude=query.exclude)
    if found is None:
        raise problems.track_not_found(track_id)
    if found.header is None:
        raise problems.list_not_ready(track_id)
    body = replies.recommendation_bytes(found, found.header, strategy, context.settings.ingest_topic)
    tag = replies.entity_tag(body)
    headers = {"etag": tag, "cache-control": "no-cache"}
    if replies.matches_tag(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(replies.timed(body, began), headers=headers, media_type=replies.JSON)


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    add_read(
        app,
        "/recommend/{track_id:path}",
        recommend,
        tags=["recommendations"],
        summary="Recommend tracks like a track",
        response_model=RecommendationBody,
        responses={
            304: {"description": "The body is still the one that `If-None-Match` names"},
            **problem_responses(404, 422, 503),
        },
    )

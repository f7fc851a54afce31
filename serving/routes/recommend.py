"""`GET /recommend/{track_id}`: recommendations for a track."""

import time
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from serving.context import context_of
from serving.models import PastRecommendationBody, RecommendationBody, problem_responses
from serving.reading import WaitingRoute, add_read
from serving.recommend import replies
from serving.recommend.playlists import MEDIA_TYPES, VARY, ListFormat, render_playlist, wanted_format
from serving.recommend.questions import RecommendQuery, in_query_terms
from serving.recommend.service import ReadAnswer
from serving.spaces import settled_context
from streams.contracts import TrackId

TrackIdPath = Annotated[
    TrackId,
    Path(description="The track's id, percent-encoded (`/` as `%2F`).", examples=["bach/bwv66.6"]),
]


def target_of(request: Request) -> bytes:
    """Path and query exactly as received: the key of a response in memory."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


# The other formats of a list, for OpenAPI.
PLAYLISTS: Final[dict[str, Any]] = {
    MEDIA_TYPES[form]: {"schema": {"type": kind}}
    for form, kind in ((ListFormat.JSPF, "object"), (ListFormat.XSPF, "string"), (ListFormat.M3U8, "string"))
}


def response_of(answer: ReadAnswer, wanted: ListFormat, if_none_match: str = "") -> Response:
    """The HTTP response of an answer: with an entity tag if it was stored, not cacheable if it was computed.

    Raises:
        ProblemError: It cannot be written in the format asked for.
    """
    body = answer.body if wanted is ListFormat.JSON else render_playlist(answer.body, wanted)
    media_type = MEDIA_TYPES[wanted]
    if not answer.tag:
        return Response(body, headers={"cache-control": "no-store", **VARY}, media_type=media_type)
    tag = answer.tag.decode()
    if wanted is not ListFormat.JSON:
        tag = f'{tag[:-1]}-{wanted}"'
    headers = {"etag": tag, "cache-control": "no-cache", **VARY}
    if replies.matches_tag(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


async def recommend(
    request: Request,
    track_id: TrackIdPath,
    query: Annotated[RecommendQuery, Query()],
) -> Response:
    """Recommendations for a track.

    A stored answer is read from memory or from the store. Workers compute others: parameters that nobody has asked for lately,
    or a track without a list yet. `cached` tells which of the two it is. `source` is the event that changed the list last.
    `stale` is true while the list has not absorbed an event for more than a second, `provisional` while it is searched for
    because the list is missing. Besides the parameters below, `extra.<key>`, `extra.<key>_not`, `extra.<key>_min` and
    `extra.<key>_max` filter on other metadata, by its key. A `parameters.<name>` is for the strategies that it names. The `ETag`
    of a stored answer changes exactly when the answer does (`behind_seconds` and `computation_time_ms` aside). With `format` or
    `Accept` the list is a playlist: JSPF, XSPF, or M3U8, which needs locations of tracks in the catalogue. With `as_of` it is
    the stored list of then, with its `version` and the time at which it was replaced; tracks are described as they are now, and
    those that have been deleted since have no name.
    """
    began = time.perf_counter()
    question = context_of(request).questions.read(request.scope["query_string"])
    context = await settled_context(request.scope, began, question.query.space)
    wanted = wanted_format(request.headers.get("accept", ""), request.scope["query_string"])
    with in_query_terms():
        answer = await context.answer(target_of(request), track_id, question, began)
    context.metrics.read_from(answer.source)
    return response_of(answer, wanted, request.headers.get("if-none-match", ""))


class RecommendRoute(WaitingRoute):
    """The route of `recommend`, which parses its own query string: parsed ones are cached."""

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
        response_model=RecommendationBody | PastRecommendationBody,
        responses={
            304: {"description": "The body is still the one that `If-None-Match` names"},
            200: {"content": PLAYLISTS},
            **problem_responses(404, 406, 410, 422, 503, 504),
        },
    )

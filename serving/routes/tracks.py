"""`/tracks`, `/composers`, `/tags`: the catalogue."""

from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from serving import cursor, models, problems
from serving.context import context_of
from serving.models import NamesQuery, SpaceQuery, TracksQuery, problem_responses
from serving.reading import add_read
from serving.recommend import replies
from serving.routes.recommend import TrackIdPath
from store import reads


async def tracks_route(request: Request, query: Annotated[TracksQuery, Query()]) -> Response:
    """The tracks of the catalogue in pages, by id; those of a search by quality."""
    wanted = reads.TrackFilter(query.composer, query.era, query.form, query.search)
    try:
        after = None if query.cursor is None else cursor.decode_cursor(query.cursor, wanted, query.space)
    except cursor.InvalidCursorError as error:
        raise problems.invalid_parameters_problem([("cursor", str(error))]) from None
    page = await reads.read_track_page(context_of(request).pool, wanted, limit=query.limit, after=after)
    body = {
        "tracks": [replies.track_summary(track) for track in page.tracks],
        "total": page.total,
        "total_exact": page.total_exact,
        "next": None if page.next is None else cursor.encode_cursor(page.next, wanted, query.space),
    }
    return replies.json_response(body)


async def read_track(
    request: Request, track_id: TrackIdPath, query: Annotated[SpaceQuery, Query()]
) -> Response:
    """A track: its metadata, its source event, and the state of its list."""
    del query
    record = await _record(request, track_id)
    context = context_of(request)
    topic = context.settings.topic_of(context.generation)
    return replies.json_response(replies.track_detail(record, topic))


async def metadata_route(
    request: Request, track_id: TrackIdPath, query: Annotated[SpaceQuery, Query()]
) -> Response:
    """A track's metadata alone."""
    del query
    return replies.json_response((await _record(request, track_id)).track.metadata)


async def list_composers(request: Request, query: Annotated[NamesQuery, Query()]) -> Response:
    """The composers of the catalogue with the number of their tracks."""
    names = await reads.count_composers(context_of(request).pool, limit=query.limit)
    return replies.json_response({"composers": _counts(names), "total": names.total})


async def list_tags(request: Request, query: Annotated[NamesQuery, Query()]) -> Response:
    """The tags of the catalogue with the number of their tracks."""
    names = await reads.count_tags(context_of(request).pool, limit=query.limit)
    return replies.json_response({"tags": _counts(names), "total": names.total})


def _counts(names: reads.NameCounts) -> list[dict[str, str | int]]:
    return [{"name": name, "count": count} for name, count in names.counts]


async def _record(request: Request, track_id: str) -> reads.TrackRecord:
    record = await reads.fetch_track(context_of(request).pool, track_id)
    if record is None:
        raise problems.track_not_found_problem(track_id)
    return record


def register(app: FastAPI) -> None:
    """Add this module's paths.

    `/metadata` comes first: an id that ends in `/metadata` must have that slash encoded.
    """
    tags = ["catalogue"]
    add_read(
        app,
        "/tracks",
        tracks_route,
        tags=tags,
        summary="List tracks",
        response_model=models.TracksPage,
        responses=problem_responses(404, 422, 503),
    )
    add_read(
        app,
        "/tracks/{track_id:path}/metadata",
        metadata_route,
        tags=tags,
        summary="Read a track's metadata",
        response_model=models.TrackMetadata,
        responses=problem_responses(404, 422, 503),
    )
    add_read(
        app,
        "/tracks/{track_id:path}",
        read_track,
        tags=tags,
        summary="Read a track",
        response_model=models.TrackDetail,
        responses=problem_responses(404, 422, 503),
    )
    add_read(
        app,
        "/composers",
        list_composers,
        tags=tags,
        summary="List composers",
        response_model=models.ComposerList,
        responses=problem_responses(404, 422, 503),
    )
    add_read(
        app,
        "/tags",
        list_tags,
        tags=tags,
        summary="List tags",
        response_model=models.TagList,
        responses=problem_responses(404, 422, 503),
    )

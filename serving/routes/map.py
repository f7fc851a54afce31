"""`/map`: the position of every track on the map that the workers have laid out."""

from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from serving import models, problems
from serving.context import context_of
from serving.models import MapQuery, problem_responses
from serving.reading import add_read
from serving.recommend import replies
from store import map_positions
from store.columns import METADATA_FIELDS

_EXTRA = "extra."


async def read_map(request: Request, query: Annotated[MapQuery, Query()]) -> Response:
    """Positions that have changed since the change `after`, in pages, with the value of one field of each track.

    Read from `after` 0 to the end for the whole map; then ask with the last `next` for later changes. Similar tracks are
    close together; the axes mean nothing. Withdrawn tracks are left out. Each generation of each space has a map of its own:
    where `generation` is another one than before, begin again.
    """
    field = query.field
    extra = field[len(_EXTRA) :] if field is not None and field.startswith(_EXTRA) else None
    if field is not None and not extra and (field not in METADATA_FIELDS or field == "extra"):
        raise problems.invalid_parameters_problem(
            [("field", "is not a metadata field, nor `extra.` and a key of it")]
        )
    context = context_of(request)
    points = await map_positions.read_points(
        context.pool,
        after=query.after,
        limit=query.limit,
        column=None if extra else field,
        extra=extra,
    )
    body = {
        **map_positions.described_map(points),
        "space": context.generation.space,
        "generation": context.generation.number,
        "next": points[-1].change if points else query.after,
        "more": len(points) == query.limit,
    }
    return replies.json_response(body, headers={"cache-control": "no-store"})


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/map",
        read_map,
        tags=["catalogue"],
        summary="Read the map",
        response_model=models.MapPage,
        responses=problem_responses(404, 422, 503),
    )

"""`/strategies` and `/spaces`: what a question can name."""

import time

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving import models
from serving.models import problem_responses
from serving.reading import add_read
from serving.recommend import replies
from serving.spaces import settled_context
from streams.generations import DEFAULT_SPACE
from streams.strategies import registry


async def list_strategies(request: Request) -> Response:
    """The strategies that `/recommend` takes: other names, modes, formulas with their sources, and parameters."""
    del request
    return replies.json_response({"strategies": registry.describe_strategies(), "default": registry.DEFAULT})


async def list_spaces(request: Request) -> Response:
    """The spaces that serve: a space is one meaning of "similar", with embeddings and lists of its own."""
    context = await settled_context(request.scope, time.perf_counter())
    serving = sorted(context.recommending.watch.seen.serving.items())
    told = [{"space": space, "generation": name.number} for space, name in serving]
    return replies.json_response({"spaces": told, "default": DEFAULT_SPACE})


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    add_read(
        app,
        "/strategies",
        list_strategies,
        tags=["recommendations"],
        summary="List strategies",
        response_model=models.StrategyList,
        responses=problem_responses(422),
    )
    add_read(
        app,
        "/spaces",
        list_spaces,
        tags=["recommendations"],
        summary="List spaces",
        response_model=models.SpaceList,
        responses=problem_responses(422, 503),
    )

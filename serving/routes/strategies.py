"""`/strategies`: the strategies of recommendation."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving import models
from serving.models import problem_responses
from serving.reading import SameRoute, add_read
from serving.recommend import replies
from streams.strategies import registry


async def list_strategies(request: Request) -> Response:
    """The strategies that `/recommend` takes: other names, modes, formulas with their sources, and parameters."""
    del request
    return replies.json_response({"strategies": registry.describe_strategies(), "default": registry.DEFAULT})


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/strategies",
        list_strategies,
        route=SameRoute,
        tags=["recommendations"],
        summary="List strategies",
        response_model=models.StrategyList,
        responses=problem_responses(422),
    )

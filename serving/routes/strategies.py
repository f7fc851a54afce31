"""`/strategies`: how recommendations can be chosen."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving import models, strategies
from serving.context import context_of
from serving.models import problem_responses
from serving.reading import add_read
from serving.recommend import replies


async def list_strategies(request: Request) -> Response:
    """The strategies that `/recommend` takes: other names, modes, formulas with their sources, and parameters."""
    described = list(context_of(request).strategies)
    return replies.json_response({"strategies": described, "default": strategies.DEFAULT})


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/strategies",
        list_strategies,
        tags=["recommendations"],
        summary="List strategies",
        response_model=models.StrategyList,
        responses=problem_responses(422),
    )

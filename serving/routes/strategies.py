"""`/strategies`: how recommendations can be chosen."""

from dataclasses import asdict

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving import models, replies, strategies
from serving.models import problem_responses
from serving.reading import add_read


async def list_strategies(request: Request) -> Response:
    """The strategies that `/recommend` takes, with their aliases and modes."""
    return replies.json_response(
        {"strategies": [asdict(each) for each in strategies.STRATEGIES], "default": strategies.DEFAULT}
    )


def register(app: FastAPI) -> None:
    """Add this module's path."""
    add_read(
        app,
        "/strategies",
        list_strategies,
        tags=["recommendations"],
        summary="List strategies",
        response_model=models.Strategies,
        responses=problem_responses(422),
    )

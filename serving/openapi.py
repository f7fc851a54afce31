"""The OpenAPI document: FastAPI's own, with problem documents where FastAPI describes its own errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.models import ProblemDocument
from streams.events import RecommendationQuery

_DESCRIPTION = """Recommendations between the works of a catalogue that changes all day.

Every track has a list of the tracks most like it, computed as tracks arrive, change and go, and read here as it
is stored. Other strategies are computed when they are first asked for, kept, and kept fresh. Errors are problem documents (RFC 9457, `application/problem+json`). Track ids may hold any printable
character: percent-encode them, `/` included. Unknown query parameters are refused, not ignored. Each answer
carries `X-Request-ID`, your own if you send one."""


def describe(app: FastAPI, *, with_keys: bool = False) -> None:
    """Make `app.openapi` build the document once, when it is first asked for; `with_keys` says that callers need one."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
            if with_keys:
                _ask_for_keys(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    schemas = document["components"]["schemas"]
    for model in (ProblemDocument, RecommendationQuery):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _ask_for_keys(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key that `mess keys create` made."},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "Likewise."},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    for path, operations in document["paths"].items():
        if path.startswith(("/health", "/metrics")):
            for operation in operations.values():
                operation["security"] = []

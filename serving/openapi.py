"""The OpenAPI document: FastAPI's own, with problem documents in place of FastAPI's errors."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.models import ProblemDocument, problem_responses
from streams.contracts import RecommendationQuery, UserContext
from streams.strategies import registry

_DESCRIPTION = """Recommendations between the works of a catalogue that changes all day.

Every track has a list of the tracks most like it, computed as tracks arrive, change and go, and read here as it
is stored. Other strategies are computed when they are first asked for, kept, and kept fresh. Errors are problem documents (RFC 9457, `application/problem+json`). Track ids may hold any
character but control and format characters: percent-encode them, `/` included. Unknown query parameters are refused, not ignored. Each answer
carries `X-Request-ID`, your own if you send one."""

# A server-sent event in the form of OpenAPI 3.2; readers of 3.1 ignore it.
_EVENT: Final = {
    "type": "object",
    "properties": {
        "event": {"enum": ["open", "change", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string"},
        "retry": {"type": "integer"},
    },
}

# Paths with parameters of free names behind a dot, which their models do not list.
_ASKING: Final = ("/recommend/{track_id}", "/explain")


def describe_openapi(app: FastAPI, *, with_keys: bool = False) -> None:
    """Let `app.openapi` build the document once, at the first request for it.

    Args:
        app: With all its routes.
        with_keys: Whether callers need a key.
    """

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
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _add_common(operation["responses"], has_body=method == "post")
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            if "text/event-stream" in operation["responses"]["200"].get("content", ()):
                operation["responses"]["200"]["content"]["text/event-stream"] = {"itemSchema": _EVENT}
    dotted = [*_settings(), *_context()]
    for path in _ASKING:
        parameters = document["paths"][path]["get"]["parameters"]
        behind = 1 + [each["name"] for each in parameters].index("mode")
        parameters[behind:behind] = dotted
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without null, which a URL or header cannot express."""
    kinds = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if not kinds:
        return schema
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return kinds[0] | rest if len(kinds) == 1 else {"anyOf": kinds, **rest}


def _add_common(responses: dict[str, Any], *, has_body: bool) -> None:
    """Add the answers that any path may give: refusals before it sees a request, and our own failures."""
    wanted = (400, 408, 413, 414, 431, 500, 503) if has_body else (400, 408, 414, 431, 500, 503)
    for status, response in problem_responses(*wanted).items():
        responses.setdefault(str(status), response)


def _settings() -> Iterator[dict[str, Any]]:
    """The parameters of all strategies; one that several share has a description for each."""
    of: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for strategy in registry.describe_strategies():
        for each in strategy["parameters"]:
            of.setdefault(each["name"], []).append((strategy["name"], each))
    for name, used in of.items():
        kinds = {each["type"] for _, each in used}
        schema: dict[str, Any] = {"type": kinds.pop() if len(kinds) == 1 else "number"}
        for bound, widest in (("minimum", min), ("maximum", max)):
            if all(bound in each for _, each in used):
                schema[bound] = widest(each[bound] for _, each in used)
        said = ". ".join(_said(strategy, each) for strategy, each in used)
        yield _parameter(f"parameters.{name}", schema, f"{said}.")


def _said(strategy: str, parameter: dict[str, Any]) -> str:
    modes = "/".join(parameter.get("modes", ()))
    default = str(parameter["default"]).lower()
    return (
        f"Of `{strategy}{f'/{modes}' if modes else ''}`, {default} if not given: {parameter['description']}"
    )


def _context() -> Iterator[dict[str, Any]]:
    """The parameters about the listener."""
    for name, schema in UserContext.model_json_schema()["properties"].items():
        kind = next(each for each in schema["anyOf"] if each.get("type") != "null")
        yield _parameter(f"user_context.{name}", kind, f"{schema['description']}.")


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    # No default in the schema: Swagger UI would send it to strategies without such a parameter.
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _ask_for_keys(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key that `mess keys create` made."},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "Likewise."},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    refusals = {str(status): response for status, response in problem_responses(401, 403, 429).items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith(("/health", "/metrics")):
                operation["security"] = []
            else:
                operation["responses"] |= refusals

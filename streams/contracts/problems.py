"""Problem documents (RFC 9457) for requests that break the contract, the same over Kafka and HTTP."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from streams.contracts.reasons import InvalidEvent, Reason

PROBLEM_PREFIX: Final = "urn:mess-ai:problem:"
UNKNOWN_STRATEGY: Final = "unknown-strategy"
UNKNOWN_SPACE: Final = "unknown-space"
# The "field" of an error that concerns the request as a whole.
WHOLE: Final = "request"
# A problem lists so many errors and counts the others.
_TOLD: Final = 20
_MAX_FIELD: Final = 120
_MAX_MESSAGE: Final = 600

_MESSAGES: Final = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "contains a lone surrogate, which is not valid Unicode text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length:,} characters",
    "list_type": "must be a list",
    "too_short": "must have {min_length:,} or more entries",
    "too_long": "must have at most {max_length:,} entries",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "timezone_aware": "must name its time zone",
}
_NO_FIELD: Final = "is not a field of a request"


class FieldProblem(BaseModel):
    """An error in one field of a request."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


class ProblemDetails(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field("about:blank", description="URI of the kind of problem")
    title: str = Field(description="The kind of problem, for people", examples=["Unknown track"])
    status: int = Field(ge=400, le=599, description="HTTP status", examples=[404])
    detail: str | None = Field(None, description="This occurrence, for people")
    errors: list[FieldProblem] = Field(default_factory=list, description="The parts of the request at fault")


class InvalidRequest(InvalidEvent):
    """A request that breaks the contract.

    Attributes:
        problem: The reply to the caller.
    """

    def __init__(self, problem: ProblemDetails) -> None:
        first, more = problem.errors[0], len(problem.errors) - 1 + _others(problem)
        also = f" (and {more} more)" if more else ""
        super().__init__(Reason.INVALID_REQUEST, f"{first.field}: {first.message}{also}")
        self.problem = problem


def refused_value(message: str) -> PydanticCustomError:
    """The error of a field's validator for a value of the wrong kind."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def field_error(field: str, message: str) -> PydanticCustomError:
    """The error of a model's validator that concerns one field."""
    return PydanticCustomError("named", "{field}: {message}", {"field": field, "message": message})


def invalid_parameters(
    errors: Sequence[tuple[str, str]], *, name: str = "invalid-parameters", left_out: int = 0, **members: Any
) -> ProblemDetails:
    """A problem of status 422.

    Args:
        errors: Pairs of field and message. The first are listed, shortened; `left_out` counts the others.
        name: The kind of problem.
        left_out: The number of errors that are not in `errors`.
        members: Further members of the problem.
    """
    told = [
        FieldProblem(field=_readable(field, _MAX_FIELD), message=_readable(message, _MAX_MESSAGE))
        for field, message in errors[:_TOLD]
    ]
    left_out += len(errors) - len(told)
    sentences = [f"{each.field}: {each.message}" for each in told]
    if left_out:
        sentences.append(f"and {left_out:,} more")
        members["left_out"] = left_out
    return ProblemDetails(
        type=PROBLEM_PREFIX + name,
        title="Unknown strategy" if name == UNKNOWN_STRATEGY else "Invalid parameters",
        status=422,
        detail="; ".join(sentences) + ".",
        errors=told,
        **members,
    )


def unknown_space(space: str, serving: Iterable[str]) -> ProblemDetails:
    """A problem of status 404: no generation of a space serves.

    Args:
        space: What was asked for.
        serving: The spaces of which one does; the problem lists them as `known`.
    """
    known = sorted(serving)
    return ProblemDetails(
        type=PROBLEM_PREFIX + UNKNOWN_SPACE,
        title="Unknown space",
        status=404,
        detail=f"No generation of space {space!r} serves; spaces that serve: {', '.join(known)}.",
        errors=[FieldProblem(field="space", message="names no space that serves")],
        known=known,
    )


def _others(problem: ProblemDetails) -> int:
    """How many errors a problem has beyond those that it lists."""
    return int((problem.model_extra or {}).get("left_out", 0))


def request_refusal(error: ValidationError, model: type[BaseModel]) -> ProblemDetails:
    """A problem of status 422; for an unknown strategy or field, `known` lists the known ones."""
    errors = error.errors(include_url=False, include_input=False)
    told = [(field_of(each), message_of(each)) for each in errors]
    for each in errors:
        if each["type"] == UNKNOWN_STRATEGY:
            return invalid_parameters(told, name=UNKNOWN_STRATEGY, known=each["ctx"]["known"])
    if any(each["type"] == "extra_forbidden" and len(each["loc"]) == 1 for each in errors):
        return invalid_parameters(told, known=sorted(model.model_fields))
    return invalid_parameters(told)


def field_of(error: Mapping[str, Any]) -> str:
    """The field that one of Pydantic's errors concerns."""
    # Pydantic adds "[key]" if a key is at fault.
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    if error["type"] == "named":
        parts.append(error["ctx"]["field"])
    return ".".join(parts) or WHOLE


def message_of(error: Mapping[str, Any], *, unknown: str = _NO_FIELD) -> str:
    """The message for one of Pydantic's errors, in the words of the contract; `unknown` is that for an unknown field."""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "named":
        return str(context["message"])
    if kind == "extra_forbidden":
        return unknown
    if kind.startswith("datetime"):
        return "must be a time, as ISO 8601 writes it"
    if kind in _MESSAGES:
        return _MESSAGES[kind].format_map({key: _plain(value) for key, value in context.items()})
    return str(error["msg"]).removeprefix("Value error, ")


def _plain(value: Any) -> Any:
    """A bound without needless decimals: 1, not 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _readable(text: str, limit: int) -> str:
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)

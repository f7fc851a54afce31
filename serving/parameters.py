"""Strict parsing of path segments and query strings."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, get_origin
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from serving import problems
from streams.contracts import InvalidEvent, check_track_id

Model = TypeVar("Model", bound=BaseModel)

_MAX_PARAMETERS = 2000


def decode_track_id(segment: str) -> str:
    """The track id of a percent-encoded path segment; decoded once, `+` stays `+`.

    Raises:
        ProblemError: 422, if no track can have such an id.
    """
    try:
        return check_track_id(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError:
        raise problems.invalid_parameters_problem([("track_id", "is not percent-encoded UTF-8")]) from None
    except InvalidEvent as error:
        message = error.detail.removeprefix("track_id ")
        raise problems.invalid_parameters_problem([("track_id", message)]) from None


def _bounds(field: FieldInfo) -> str:
    """The message for a whole number that is too long to parse."""
    has = {end: getattr(each, end) for each in field.metadata for end in ("ge", "le") if hasattr(each, end)}
    return f"must be between {has['ge']} and {has['le']}"


class NoParameters(BaseModel, frozen=True, extra="forbid"):
    """The model of a query string that must be empty."""


class QueryReader(Generic[Model]):
    """Reads a query string into a model, and refuses what would otherwise be ignored."""

    def __init__(self, model: type[Model], dotted: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            model: The parameters; frozen, as defaults are shared.
            dotted: Prefixes of parameters with free names behind a dot, such as `extra`.
        """
        self._model = model
        self._dotted = dotted
        self._lists = {
            name for name, field in model.model_fields.items() if get_origin(field.annotation) is list
        }
        self._defaults: Model | None = None

    def read(self, query_string: bytes) -> Model:
        """The parameters of one request.

        Raises:
            ProblemError: 422, naming each parameter that is unknown, repeated, or out of range.
        """
        return self.read_all(query_string)[0]

    def read_all(self, query_string: bytes) -> tuple[Model, dict[str, dict[str, list[str]]]]:
        """The parameters of one request, and those with free names, by their prefix.

        Raises:
            ProblemError: 422, as `read`.
        """
        grouped = self._grouped(query_string) if query_string else {}
        dotted: dict[str, dict[str, list[str]]] = {prefix: {} for prefix in self._dotted}
        for name in [name for name in grouped if "." in name]:
            prefix, _, key = name.partition(".")
            if prefix in dotted and key:
                dotted[prefix][key] = grouped.pop(name)
        try:
            return self._model.model_validate(grouped) if grouped else self._default(), dotted
        except ValidationError as error:
            raise self._refused(error.errors(include_url=False), grouped) from None

    def _refused(
        self, errors: Sequence[Mapping[str, Any]], grouped: Mapping[str, Any]
    ) -> problems.ApiProblemError:
        told = []
        for error in errors:
            name, *place = error["loc"]
            message = (
                _bounds(self._model.model_fields[name])
                if error["type"] == "int_parsing_size"
                else problems.parameter_message(error)
            )
            # If a parameter has several values, the error says which one.
            which = f"value {place[0] + 1}: " if place and len(grouped[name]) > 1 else ""
            told.append((name, which + message))
        problem = problems.invalid_parameters_problem(told)
        known = [*self._model.model_fields, *(f"{prefix}.*" for prefix in self._dotted)]
        if known and any(error["type"] == "extra_forbidden" for error in errors):
            problem.members["known"] = sorted(known)
        return problem

    def _default(self) -> Model:
        if self._defaults is None:
            self._defaults = self._model.model_validate({})
        return self._defaults

    def _grouped(self, query_string: bytes) -> dict[str, Any]:
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MAX_PARAMETERS,
            )
        except UnicodeDecodeError:
            raise problems.invalid_parameters_problem([("query", "is not percent-encoded UTF-8")]) from None
        except ValueError:
            raise problems.invalid_parameters_problem(
                [("query", f"has more than {_MAX_PARAMETERS} parameters")]
            ) from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name in self._lists or name.partition(".")[0] in self._dotted:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise problems.invalid_parameters_problem([(name, "is given more than once")])
            else:
                values[name] = value
        return values

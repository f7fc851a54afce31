"""When a request is tried again, and after how long: decided here, waited for by whoever sends."""

import email.utils
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from mess_client.errors import ConnectionFailedError, MessClientError, UnexpectedAnswerError, problem_error

Model = TypeVar("Model", bound=BaseModel)

# Another moment may bring another answer. Every request of this package reads, so that none does harm twice.
_PASSING = frozenset({408, 429, 502, 503, 504})
_EXCERPT = 200


@dataclass(frozen=True)
class Retries:
    """How often and after how long a request is tried again.

    Attributes:
        attempts: How often a request is sent at most; 1: never again.
        first_wait: Seconds before the second; each further wait is twice as long, and drawn from its upper half.
        longest_wait: Seconds that a wait takes at most. Where the API asks for more with `Retry-After`, its answer is
            raised at once rather than asked for too early.
    """

    attempts: int = 4
    first_wait: float = 0.25
    longest_wait: float = 10.0

    def wait_after(self, attempt: int, error: MessClientError) -> float | None:
        """Seconds to wait after a failed attempt, the first of which is 1; None: not to be tried again."""
        if attempt >= self.attempts or not _may_pass(error):
            return None
        backoff = min(self.longest_wait, self.first_wait * 2 ** (attempt - 1))
        wait = max(retry_after_of(error) or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads callers
        return wait if wait <= self.longest_wait else None


def _may_pass(error: MessClientError) -> bool:
    return isinstance(error, ConnectionFailedError) or getattr(error, "status", 0) in _PASSING


def retry_after_of(error: MessClientError) -> float | None:
    """Seconds after which the API wants to be asked again, where it names them."""
    found: float | None = getattr(error, "retry_after", None)
    return found


def connection_error(error: httpx.TransportError, url: str) -> ConnectionFailedError:
    """What a failure of the transport is to the caller."""
    what = str(error) or type(error).__name__
    return ConnectionFailedError(f"{url} cannot be reached: {what}")


def parse_answer(response: httpx.Response, model: type[Model], *, also: int = 200) -> Model:
    """An answer as its model.

    Args:
        response: Read to its end.
        model: What it should be.
        also: A status beside 200 that brings such a body.

    Raises:
        ProblemError: It is a problem document.
        UnexpectedAnswerError: It is neither.
    """
    if response.status_code not in {200, also} or "problem" in response.headers.get("content-type", ""):
        raise answer_error(response)
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedAnswerError(f"{response.request.url} {_unlike(model, error)}") from None


def parse_part(document: object, model: type[Model]) -> Model:
    """A part of an answer as its model.

    Raises:
        UnexpectedAnswerError: It is none.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UnexpectedAnswerError(f"the API {_unlike(model, error)}") from None


def _unlike(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the body"
    return f"answered what is no {model.__name__}: {place}: {first['msg']}"


def answer_error(response: httpx.Response) -> MessClientError:
    """The exception that an answer other than 200 stands for."""
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    problem = problem_error(
        document,
        retry_after=retry_after(response.headers),
        request_id=response.headers.get("x-request-id", ""),
    )
    return problem or _UnexplainedError(response)


class _UnexplainedError(UnexpectedAnswerError):
    """An answer of a proxy or of another server; it may pass, as its status says."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.retry_after = retry_after(response.headers)
        said = response.text[:_EXCERPT]
        super().__init__(
            f"{response.request.url} answered {response.status_code} without a problem document: {said}"
        )


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds that a `Retry-After` names, in either form; None where there is none, or it cannot be read."""
    text = str(headers.get("retry-after", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())

"""What can go wrong with a request, as exceptions: one base, and a class for each thing that a caller can do about it."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mess_client.models import ProblemDetail, ProblemField

_PREFIX = "urn:mess-ai:problem:"


class MessClientError(Exception):
    """Whatever this package raises about a request."""


class ConnectionFailedError(MessClientError):
    """Nobody answered, or not in time, as often as it was tried."""


class UnexpectedAnswerError(MessClientError):
    """What answered is not the API, or another version of it: neither a body nor a problem document as described."""


class ProblemError(MessClientError):
    """The API has refused a request, and says why.

    Attributes:
        status: HTTP status.
        kind: What is wrong, such as `track-not-found`: the last part of the problem's `type`.
        title: The same in words.
        detail: What is wrong with this request.
        fields: The parameters at fault, of an `InvalidQuestionError`.
        retry_after: Seconds after which to ask again, where the API names them.
        request_id: What the API's log calls the request; empty of a question among many.
        document: The whole problem document.
    """

    def __init__(
        self, document: Mapping[str, Any], *, retry_after: float | None = None, request_id: str = ""
    ) -> None:
        said = ProblemDetail.model_validate(document)
        self.status = said.status
        self.kind = said.type.removeprefix(_PREFIX)
        self.title = said.title
        self.detail = said.detail
        self.fields: list[ProblemField] = said.errors
        self.retry_after = retry_after
        self.request_id = request_id
        self.document = dict(document)
        wrong = "".join(f"; {field.field} {field.message}" for field in said.errors)
        super().__init__(f"{said.status} {self.kind}: {said.detail}{wrong}")


class NotFoundError(ProblemError):
    """There is no such track, no such space, or nothing at this path."""


class InvalidQuestionError(ProblemError):
    """The request cannot be answered as it is; `fields` says what is wrong with it."""


class KeyRefusedError(ProblemError):
    """A key is missing, not valid, or not for this."""


class TooManyRequestsError(ProblemError):
    """Over the rate of the key or the address, also after waiting as often as allowed."""


class UnavailableError(ProblemError):
    """The API cannot answer at the moment, also after waiting as often as allowed."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: InvalidQuestionError,
    401: KeyRefusedError,
    403: KeyRefusedError,
    404: NotFoundError,
    405: InvalidQuestionError,
    413: InvalidQuestionError,
    414: InvalidQuestionError,
    422: InvalidQuestionError,
    429: TooManyRequestsError,
    503: UnavailableError,
    504: UnavailableError,
}


def problem_error(
    document: Any, *, retry_after: float | None = None, request_id: str = ""
) -> ProblemError | None:
    """The exception that a problem document stands for; None for what is no problem document."""
    try:
        status = ProblemDetail.model_validate(document).status
    except ValidationError:
        return None
    kind = _BY_STATUS.get(status, ProblemError)
    return kind(document, retry_after=retry_after, request_id=request_id)

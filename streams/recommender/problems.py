"""The problems that a worker replies with."""

from collections.abc import Sequence

from streams.contracts import PROBLEM_PREFIX, FieldProblem, ProblemDetails, invalid_parameters


class RequestProblemError(Exception):
    """A request cannot be answered with a list; its reply is the problem."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


def _problem(
    status: int, name: str, title: str, detail: str, errors: Sequence[tuple[str, str]] = ()
) -> RequestProblemError:
    named = [FieldProblem(field=field, message=message) for field, message in errors]
    return RequestProblemError(
        ProblemDetails(type=PROBLEM_PREFIX + name, title=title, status=status, detail=detail, errors=named)
    )


def invalid_parameter(field: str, message: str) -> RequestProblemError:
    """422: a parameter cannot be used."""
    return RequestProblemError(invalid_parameters([(field, message)]))


def unknown_track(track_ids: Sequence[str], field: str) -> RequestProblemError:
    """404: no such track."""
    shown = ", ".join(repr(track_id) for track_id in track_ids[:5])
    more = f" and {len(track_ids) - 5} more" if len(track_ids) > 5 else ""
    return _problem(
        404,
        "track-not-found",
        "Unknown track",
        f"There is no track {shown}{more}.",
        [(field, "names no track of the catalogue")],
    )


def reused_request_id() -> RequestProblemError:
    """409: another request has the same request_id."""
    return _problem(
        409,
        "request-id-reused",
        "Request id reused",
        "Another request with this request_id was answered lately: choose another one.",
        [("request_id", "belongs to another request")],
    )


def internal_failure() -> RequestProblemError:
    """500: a defect of the worker."""
    return _problem(
        500, "internal-error", "Internal error", "Something went wrong on our side; the worker's log has it."
    )


def store_away() -> RequestProblemError:
    """503: Postgres is away."""
    return _problem(
        503, "store-unavailable", "Store unavailable", "The store cannot be reached at the moment: try again."
    )


def search_unavailable() -> RequestProblemError:
    """503: the catalogue has not been loaded yet."""
    return _problem(
        503,
        "search-unavailable",
        "Search unavailable",
        "The catalogue cannot be searched at the moment: try again.",
    )


def too_late() -> RequestProblemError:
    """504: the caller does not wait any longer."""
    return _problem(504, "too-late", "Too late", "The request's timeout passed before there was an answer.")

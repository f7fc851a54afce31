"""Checks of schemathesis: a request that meets the document is refused only for what no schema can say."""

import re

import schemathesis
from schemathesis.core.failures import Failure

# What binds several parts of a request together, or a part to the catalogue, by what is said of it; a filter's value to its
# field; and what is in base64, or deep in JSON that may be any.
_RULES = re.compile(
    r"exactly one of|is not a mode of|contradicts|is what to start from, too|must be at most top_k|min is above max|candidate and compare exclude"
    r"|components; this catalogue has|has no entry|is longer than|are longer than|is not a cursor|belongs to a listing"
    r"|names no track of the catalogue|is given more than once|is not a parameter of|must be a date|is a list of locations|is blank, or a word for no value|contains a NUL character|contains a lone surrogate|is not zero|is zero|bytes long|is (?:nan|-?inf)$|must be a number$|has no range|all is for lists|have no aspects|has no aspect|must not all be zero|is no name of an aspect|is given twice|must be between -1,000 and 1,000|is of the changes of space|is missing or zero|is neither a list version|is a time to come|reads stored lists, which do not answer|has no parts|has a part|has fixed how many components"
)


@schemathesis.check
def refused_by_a_rule(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Each error of a 422 is by such a rule, if the request meets the document."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 422:
        return
    for error in response.json().get("errors", ()):
        if not _RULES.search(error["message"]):
            raise Failure(
                operation=case.operation.label,
                title="Refused though the document allows it",
                message=f"{error['field']}: {error['message']}",
            )


@schemathesis.check
def put_off_for_an_event(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A 503 is for an event that has not been taken in, and says when to ask again."""
    if response.status_code != 503:
        return
    if not response.json()["type"].endswith(":event-not-taken-in") or "retry-after" not in response.headers:
        raise Failure(
            operation=case.operation.label, title="Unavailable", message=response.json().get("detail", "")
        )

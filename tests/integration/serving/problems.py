"""One way to look at a problem document."""

from typing import Any

import httpx

from serving.models import ProblemDocument


def problem_of(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The document, after checking that it is one, with this status and of this kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    ProblemDocument.model_validate(document)
    assert document["type"] == f"urn:mess-ai:problem:{name}"
    assert document["status"] == status
    assert document["instance"] == response.request.url.raw_path.split(b"?")[0].decode()
    return document


def fields_of(document: dict[str, Any]) -> list[str]:
    """The parameters that a 422 document names."""
    return [error["field"] for error in document["errors"]]

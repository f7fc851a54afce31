"""Reads from a MESS-AI API: recommendations, the catalogue, and lists as they change."""

from mess_client._async import AsyncMessClient
from mess_client._async_changes import AsyncChangeStream
from mess_client._sync import MessClient
from mess_client._sync_changes import ChangeStream
from mess_client.errors import (
    ConnectionFailedError,
    InvalidQuestionError,
    KeyRefusedError,
    MessClientError,
    NotFoundError,
    ProblemError,
    TooManyRequestsError,
    UnavailableError,
    UnexpectedAnswerError,
)
from mess_client.models import Change, Recommendations, RecommendedTrack
from mess_client.questions import Question
from mess_client.retrying import Retries

__all__ = [
    "AsyncChangeStream",
    "AsyncMessClient",
    "Change",
    "ChangeStream",
    "ConnectionFailedError",
    "InvalidQuestionError",
    "KeyRefusedError",
    "MessClient",
    "MessClientError",
    "NotFoundError",
    "ProblemError",
    "Question",
    "Recommendations",
    "RecommendedTrack",
    "Retries",
    "TooManyRequestsError",
    "UnavailableError",
    "UnexpectedAnswerError",
]

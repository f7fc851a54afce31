"""What a dead letter says of an embedding that another model has made."""

from typing import Final

from streams.contracts import InvalidEvent, Reason
from streams.generations import generation_of_topic

_ANOTHER: Final = frozenset({Reason.WRONG_MODEL, Reason.WRONG_DIMENSION, Reason.WRONG_ASPECTS})


def of_another_model(error: InvalidEvent, topic: str) -> InvalidEvent:
    """The error, with the generation that refuses the embedding and where one of another model belongs."""
    name = generation_of_topic(topic)
    if error.reason not in _ANOTHER or name is None:
        return error
    told = f"{error.detail}. That is generation {name}; another model's vectors go to one of their own: `mess spaces create`"
    return InvalidEvent(error.reason, told)

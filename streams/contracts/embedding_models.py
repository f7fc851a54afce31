"""The name of the model that made an embedding: of a catalogue's embeddings there is one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field

from streams.contracts.reasons import InvalidEvent, Reason, quote_value
from streams.contracts.validation import is_identifier, json_kind
from streams.strategies.aspects import Expected, Layout

MAX_MODEL: Final = 200
_RULE: Final = f"1 to {MAX_MODEL} characters, none of them a control or format character"

ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_MODEL,
        description=f"Name and version of the model that made the embedding: {_RULE}",
        examples=["musicnn-msd-1"],
    ),
]


def check_model_name(name: object) -> str:
    """Return a valid name of a model.

    Raises:
        InvalidEvent: `invalid_model`.
    """
    if not isinstance(name, str):
        raise InvalidEvent(Reason.INVALID_MODEL, f"model must be text, not {json_kind(name)}")
    if not 1 <= len(name) <= MAX_MODEL or not is_identifier(name):
        raise InvalidEvent(Reason.INVALID_MODEL, f"model is {quote_value(name)}; it must have {_RULE}")
    return name


def read_model(event: Mapping[str, Any]) -> str | None:
    """The model that an event names; None if it names none.

    Raises:
        InvalidEvent: `invalid_model`.
    """
    said = event.get("model")
    return None if said is None else check_model_name(said)


def check_model(said: str | None, expected: Expected) -> None:
    """Refuse an embedding of another model than the catalogue's.

    An event that names none is taken for one of the catalogue's model. As long as no track has fixed the layout, any model
    will do that `expected` does not exclude.

    Raises:
        InvalidEvent: `wrong_model`.
    """
    if said is None or expected is None or said == expected.model:
        return
    if expected.model is not None:
        is_said = f"the embedding is of model {quote_value(said)}; this catalogue's are of {quote_value(expected.model)}"
        raise InvalidEvent(Reason.WRONG_MODEL, is_said)
    if isinstance(expected, Layout):
        is_said = f"the embedding is of model {quote_value(said)}; this catalogue's tracks named none"
        raise InvalidEvent(
            Reason.WRONG_MODEL, f"{is_said}. If it made theirs, start the workers with MESS_EMBEDDING_MODEL"
        )


def named(layout: Layout, model: str | None) -> Layout:
    """The layout with the name of a model, unless it has one."""
    return layout if layout.model is not None or model is None else replace(layout, model=model)

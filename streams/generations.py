"""Names of generations, and what is named after them: a schema of Postgres, topics of Kafka, a consumer group.

A space is a meaning of "similar"; a generation is one model's vectors of a space. The first generation of the space `default` is
the catalogue itself, and has the names that were there before there were generations.
"""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_SPACE: Final = "default"
SPACE_PATTERN: Final = r"^[a-z][a-z0-9]{0,29}$"
MAX_NUMBER: Final = 99_999
TRACK_INGEST: Final = "track-ingest"
_SPACE: Final = re.compile(SPACE_PATTERN)
_EMBEDDINGS: Final = "track-embeddings"
_TOPIC: Final = re.compile(rf"{_EMBEDDINGS}\.([a-z][a-z0-9]{{0,29}})\.([1-9][0-9]{{0,4}})")


@dataclass(frozen=True, slots=True, order=True)
class GenerationName:
    """A generation of a space.

    Attributes:
        space: 1 to 30 lower-case letters and digits, a letter first.
        number: From 1.
    """

    space: str = DEFAULT_SPACE
    number: int = 1

    def __post_init__(self) -> None:
        if not _SPACE.fullmatch(self.space):
            raise ValueError(
                f"{self.space[:60]!r} is no name of a space: a lower-case letter, then up to 29 letters and digits"
            )
        if not 1 <= self.number <= MAX_NUMBER:
            raise ValueError(f"a generation is a number from 1 to {MAX_NUMBER:,}, not {self.number}")

    def __str__(self) -> str:
        return f"{self.space}/{self.number}"

    @staticmethod
    def parse(text: str) -> "GenerationName":
        """The generation that `str` gives this text.

        Raises:
            ValueError: There is none.
        """
        space, _, number = text.partition("/")
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"{text[:60]!r} is no generation, such as default/2")
        return GenerationName(space, int(number))

    @property
    def is_first(self) -> bool:
        """Whether it is the catalogue itself, whose tracks come with their metadata."""
        return self == GenerationName()

    @property
    def schema(self) -> str | None:
        """The schema of its tables; None: that of the catalogue."""
        return None if self.is_first else f"mess_{self.space}_{self.number}"

    @property
    def topic(self) -> str:
        """The topic of its vectors."""
        return TRACK_INGEST if self.is_first else f"{_EMBEDDINGS}.{self.space}.{self.number}"

    def group(self, base: str) -> str:
        """The consumer group of its workers; `base` is that of the first."""
        return base if self.is_first else f"{base}.{self.space}.{self.number}"

    def feed_topic(self, base: str) -> str:
        """The topic of the space's changed lists; `base` is that of the space `default`."""
        return base if self.space == DEFAULT_SPACE else f"{base}.{self.space}"


# The catalogue itself.
FIRST_GENERATION: Final = GenerationName()


def generation_of_topic(topic: str) -> GenerationName | None:
    """The generation whose vectors are in a topic; None if that is no such topic."""
    if topic == TRACK_INGEST:
        return GenerationName()
    found = _TOPIC.fullmatch(topic)
    return None if found is None else GenerationName(found[1], int(found[2]))

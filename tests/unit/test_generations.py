"""Names of generations, and what is named after them."""

import pytest

from streams.generations import GenerationName, generation_of_topic
from streams.settings import StreamSettings

pytestmark = pytest.mark.unit


def test_the_first_generation_has_the_names_that_were_there() -> None:
    """A catalogue of before is it, without a row or topic moved."""
    first = StreamSettings().generation_name
    assert str(first) == "default/1"
    assert (first.schema, first.topic, first.group("mess-worker")) == (None, "track-ingest", "mess-worker")
    assert generation_of_topic("track-ingest") == first


def test_every_other_one_has_names_of_its_own() -> None:
    """Of space and number, and a topic tells whose it is."""
    second = StreamSettings(generation=2).generation_name
    assert second.schema == "mess_default_2"
    assert second.topic == "track-embeddings.default.2"
    assert second.group("mess-worker") == "mess-worker.default.2"
    for name in (second, GenerationName("rhythm", 1), GenerationName("rhythm", 12)):
        assert generation_of_topic(name.topic) == name
        assert GenerationName.parse(str(name)) == name
    assert generation_of_topic("track-interactions") is None


def test_each_space_has_a_feed_of_its_own() -> None:
    """All generations of a space share one topic; that of the space `default` keeps its name."""
    names = (
        GenerationName(),
        GenerationName(number=2),
        GenerationName("melody", 1),
        GenerationName("melody", 2),
    )
    topics = [name.feed_topic("recommendations") for name in names]
    assert topics == ["recommendations"] * 2 + ["recommendations.melody"] * 2


@pytest.mark.parametrize(
    "text",
    ["", "default", "Default/1", "default/0", "default/x", "a.b/1", "a_b/1", f"{'a' * 31}/1", "a/100000"],
)
def test_other_names_are_refused(text: str) -> None:
    """A name must fit a schema, a topic and a group, and be told from another's."""
    with pytest.raises(ValueError, match=r"generation|name of a space"):
        GenerationName.parse(text)

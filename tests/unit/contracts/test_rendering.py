"""The parts of bodies that workers and the API both write."""

import orjson
import pytest

from streams.contracts import RecommendationBody, entity_tag, finished_body, generation_members
from streams.contracts.rendering import filename_of, track_members
from streams.generations import GenerationName
from tests.support.metadata import NOTHING_KNOWN

pytestmark = pytest.mark.unit


def test_a_tracks_members_are_its_headline_and_all_its_fields() -> None:
    """Encoded before or not, they are the same bytes."""
    metadata = {**NOTHING_KNOWN, "title": 'A "b" \\ c', "era": "Baroque", "tags": ["x"]}
    written = track_members(metadata, "a.mid")
    assert written == track_members(metadata, "a.mid", orjson.Fragment(orjson.dumps(metadata)))
    read = orjson.loads(b"{%b}" % written)
    assert read["metadata"] == metadata
    assert (read["title"], read["era"], read["filename"], read["tags"]) == (
        metadata["title"],
        "Baroque",
        "a.mid",
        ["x"],
    )


@pytest.mark.parametrize(
    ("extra", "expected"), [({}, None), ({"filename": 3}, None), ({"filename": "a"}, "a")]
)
def test_a_file_name_is_text_or_none(extra: dict[str, object], expected: str | None) -> None:
    """A catalogue may have anything under that key."""
    assert filename_of(extra) == expected


def test_a_finished_body_ends_with_the_members_of_its_delivery() -> None:
    """All of them are the contract's."""
    of = generation_members(GenerationName("default", 2))
    whole = orjson.loads(finished_body(b'{"a":1}', of, cached=True, stale=False, milliseconds=1.23456))
    assert whole == {
        "a": 1,
        "space": "default",
        "generation": 2,
        "cached": True,
        "stale": False,
        "behind_seconds": 0.0,
        "computation_time_ms": 1.235,
    }
    assert whole.keys() - {"a"} <= RecommendationBody.model_fields.keys()


def test_an_entity_tag_is_that_of_the_content() -> None:
    """Weak, quoted, equal for equal bytes."""
    assert entity_tag(b"a") == entity_tag(b"a") != entity_tag(b"b")
    assert entity_tag(b"a").startswith('W/"')

"""The AsyncAPI document is current, whole, and true of the models."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.contracts import (
    ListChange,
    Reason,
    RecommendationReply,
    TrackEvent,
    TrackMetadata,
    parse_interaction,
    parse_request,
    parse_track_event,
)
from streams.kafka.asyncapi import asyncapi_document, to_yaml
from streams.kafka.topics import topic_specs
from streams.settings import KafkaSettings, StreamSettings
from streams.strategies.aspects import FirstTrack

pytestmark = pytest.mark.contract
PATH = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from walk(item)
    elif isinstance(node, list):
        for item in node:
            yield from walk(item)


def test_the_document_in_docs_is_what_the_models_generate() -> None:
    """docs/asyncapi.yaml is current; `mess asyncapi --output docs/asyncapi.yaml` makes it so."""
    assert PATH.read_text(encoding="utf-8") == to_yaml(asyncapi_document(version("mess-ai")))


def test_the_document_is_valid_yaml_of_the_same_content() -> None:
    """A YAML reader sees exactly what was generated."""
    assert yaml.safe_load(PATH.read_text(encoding="utf-8")) == json.loads(
        json.dumps(asyncapi_document(version("mess-ai")))
    )


def test_every_reference_leads_somewhere() -> None:
    """No $ref of the document dangles."""
    generated = asyncapi_document("1")
    references = [node["$ref"] for node in walk(generated) if "$ref" in node]
    assert len(references) > 20
    for reference in references:
        node: Any = generated
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_topic_is_described_with_its_partitions_and_configuration() -> None:
    """The document and the topics that are created agree."""
    channels = asyncapi_document("1")["channels"]
    specs = topic_specs(KafkaSettings(bootstrap_servers="a:1"), StreamSettings())
    assert channels.keys() == {spec.name for spec in specs}
    for spec in specs:
        assert channels[spec.name]["bindings"]["kafka"]["partitions"] == spec.partitions
        described = channels[spec.name]["bindings"]["kafka"]["topicConfiguration"]
        assert described["cleanup.policy"] == [spec.config["cleanup.policy"]]


def test_dead_letters_list_every_reason() -> None:
    """The header's enumeration is the code's."""
    headers = asyncapi_document("1")["components"]["messages"]["DeadLetter"]["headers"]["properties"]
    assert headers["mess.error"]["enum"] == [reason.value for reason in Reason]


def test_examples_of_the_models_pass_the_door() -> None:
    """An event put together from the documented examples is accepted."""
    metadata = {
        name: field.examples[0] for name, field in TrackMetadata.model_fields.items() if field.examples
    }
    event = {
        "track_id": "smd/Bach_BWV849-01",
        "embedding": TrackEvent.model_fields["embedding"].examples[0],  # type: ignore[index]
        "metadata": metadata,
        "event_time": TrackEvent.model_fields["event_time"].examples[0],  # type: ignore[index]
    }
    read = parse_track_event(b"smd/Bach_BWV849-01", json.dumps(event).encode(), layout=FirstTrack(3))
    assert read.metadata.present() == metadata  # type: ignore[union-attr]


def test_every_field_of_the_contracts_is_described() -> None:
    """A reader of the document finds a sentence beside every field."""
    for model in (TrackEvent, TrackMetadata, ListChange):
        for name, field in model.model_fields.items():
            described = field.description or next(
                (getattr(m, "description", None) for m in field.metadata), None
            )
            assert described, f"{model.__name__}.{name} has no description"


def test_the_guide_names_every_topic_reason_and_field() -> None:
    """docs/events.md and docs/metadata.md keep up with the code."""
    guide = "".join(PATH.with_name(name).read_text(encoding="utf-8") for name in ("events.md", "metadata.md"))
    names = [spec.name for spec in topic_specs(KafkaSettings(bootstrap_servers="a:1"), StreamSettings())]
    names += [reason.value for reason in Reason] + list(TrackMetadata.model_fields)
    missing = [name for name in names if f"`{name}`" not in guide]
    assert missing == []


def test_the_guides_example_events_are_accepted() -> None:
    """The JSON that docs/events.md shows keeps to the contract."""
    guide = PATH.with_name("events.md").read_text(encoding="utf-8")
    examples = [json.loads(part.split("```")[0]) for part in guide.split("```json\n")[1:]]
    event, change, request, reply, interaction = examples
    parse_track_event(event["track_id"].encode(), json.dumps(event).encode(), layout=FirstTrack(3))
    ListChange.model_validate_json(json.dumps(change))
    asked = parse_request(request["request_id"].encode(), json.dumps(request).encode())
    assert RecommendationReply.model_validate_json(json.dumps(reply)).request_id == asked.request_id
    assert parse_interaction(interaction["track_id"].encode(), json.dumps(interaction).encode()).event_id

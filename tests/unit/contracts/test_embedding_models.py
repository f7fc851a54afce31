"""The model that an event names: one for a catalogue."""

import json

import pytest

from streams.contracts import InvalidEvent, Reason, TrackUpsert, encode_track, parse_track_event
from streams.contracts.tracks import read_track_object
from streams.strategies.aspects import Expected, FirstTrack, Layout

pytestmark = pytest.mark.unit


def read(expected: Expected, **said: object) -> TrackUpsert:
    """An event of track a, as the ingest agent reads it."""
    event = {"track_id": "a", "embedding": [3.0, 4.0], **said}
    found = parse_track_event(b"a", json.dumps(event).encode(), layout=expected)
    assert isinstance(found, TrackUpsert)
    return found


@pytest.mark.parametrize("expected", [None, FirstTrack(), FirstTrack(2), FirstTrack(model="m-1")])
def test_the_first_track_fixes_the_model(expected: Expected) -> None:
    """With dimension and parts; a model that is set is the catalogue's though the track names none."""
    assert read(expected, model="m-1").layout == Layout(2, model="m-1")
    unnamed = read(expected, model=None).layout
    assert unnamed == Layout(2, model=expected.model if isinstance(expected, FirstTrack) else None)


def test_an_event_that_names_no_model_is_of_the_catalogues() -> None:
    """So producers that know nothing of names go on."""
    layout = Layout(2, model="m-1")
    assert read(layout).layout is layout
    assert read(layout, model="m-1").layout is layout


@pytest.mark.parametrize(
    ("expected", "detail"),
    [
        (Layout(2, model="m-1"), "the embedding is of model 'm-2'; this catalogue's are of 'm-1'"),
        # The other dimension follows from the other model, which is what is wrong.
        (Layout(9, model="m-1"), "the embedding is of model 'm-2'; this catalogue's are of 'm-1'"),
        (FirstTrack(model="m-1"), "the embedding is of model 'm-2'; this catalogue's are of 'm-1'"),
        (
            Layout(2),
            "the embedding is of model 'm-2'; this catalogue's tracks named none. If it made theirs, "
            "start the workers with MESS_EMBEDDING_MODEL",
        ),
    ],
)
def test_another_model_is_refused(expected: Expected, detail: str) -> None:
    """Though the dimension be the same: similarity between two models' vectors means nothing."""
    with pytest.raises(InvalidEvent) as caught:
        read(expected, model="m-2")
    assert (caught.value.reason, caught.value.detail) == (Reason.WRONG_MODEL, detail)


@pytest.mark.parametrize("name", ["", "a" * 201, "a\nb", 7, ["m"]])
def test_a_name_is_short_printable_text(name: object) -> None:
    """Anything else is refused, also before a track has fixed anything, and by producers."""
    with pytest.raises(InvalidEvent) as caught:
        read(None, model=name)
    assert caught.value.reason is Reason.INVALID_MODEL
    with pytest.raises(InvalidEvent):
        encode_track("a", [1.0], model=name)  # type: ignore[arg-type]


def test_a_producer_sends_the_name_that_its_record_has() -> None:
    """One that does not know the catalogue's takes any first name, and then no other."""
    event = {"track_id": "a", "embedding": [3.0, 4.0]}
    unnamed = read_track_object(event, layout=None).layout
    named = read_track_object(event | {"model": "m-1"}, layout=unnamed).layout
    assert (unnamed.model, named.model) == (None, "m-1")
    with pytest.raises(InvalidEvent, match="of 'm-1'"):
        read_track_object(event | {"model": "m-2"}, layout=named)
    key, value = encode_track("a", [3.0, 4.0], model="m-1")
    assert parse_track_event(key, value, layout=None).layout.model == "m-1"  # type: ignore[union-attr]

"""Explanations, bodies of lists, entity tags and settings."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.models import RecommendationBody, TrackMetadata
from serving.recommend import replies
from serving.recommend.explanations import SENTENCE, facts_of
from serving.recommend.lists import TrackWithNeighbours
from serving.recommend.track_fragments import TrackFragment
from serving.settings import ServingSettings
from store.columns import METADATA_FIELDS
from store.listed import ListedTrack, ListHeader
from store.reads import StoredTrack
from streams.contracts import finished_body, generation_members
from streams.contracts.rendering import filename_of, headline_fields
from streams.generations import GenerationName
from tests.support.metadata import NOTHING_KNOWN

pytestmark = pytest.mark.unit

FIRST = generation_members(GenerationName())

BACH = {
    "composer": "Bach",
    "form": "fugue",
    "key_signature": "D minor",
    "era": "Baroque",
    "instrument": "voices",
}


@pytest.mark.parametrize(
    ("other", "explanation"),
    [
        (BACH, "same composer (Bach), form (fugue), key (D minor), era (Baroque) and instrument (voices)"),
        ({"composer": "bach", "form": "Fugue "[:5]}, "same composer (bach) and form (Fugue)"),
        ({"era": "Baroque"}, "same era (Baroque)"),
        ({"era": " baroque", "instrument": "Voices"}, "same era (baroque) and instrument (Voices)"),
        ({"composer": "Handel", "form": None}, None),
        ({}, None),
    ],
)
def test_explanation_names_what_is_shared(other: dict[str, str], explanation: str | None) -> None:
    """The sentence has the similarity and exactly the facts that both tracks have."""
    expected = "Cosine similarity 0.914" + (f"; {explanation}" if explanation else "")
    assert _sentence(0.9141, other, BACH) == expected


def test_anonymous_works_share_no_composer() -> None:
    """Nobody known in common is not a reason."""
    trad = {"composer": "Traditional", "form": "reel"}
    assert _sentence(0.5, trad, trad) == "Cosine similarity 0.500; same form (reel)"


def _sentence(similarity: float, other: dict[str, Any], seed: dict[str, Any]) -> Any:
    return orjson.loads(SENTENCE % (similarity, facts_of(other).shared_with(facts_of(seed))))


NOW = datetime(2026, 2, 3, tzinfo=UTC)
NOTHING: dict[str, Any] = NOTHING_KNOWN
AWKWARD: dict[str, Any] = {
    **dict.fromkeys(METADATA_FIELDS, 'a "quoted"\\ line\n\x7f'),
    **BACH,
    "composer": 'Dvořák "the elder" \\',
    "form": "🎻 100 % {fugue}",
    "year_composed": 1700,
    "duration_seconds": 1e-7,
    "popular_rank": None,
    "tags": ["", "♭", '"'],
    "extra": {"filename": 'é".mid', "deep": {"list": [1, 2.5, None, True, 1e300], "-": "\u2028"}},
}


def _card(track_id: str, metadata: dict[str, Any]) -> TrackFragment:
    return TrackFragment(ListedTrack(1, 1, track_id, metadata))


def _listed(similarity: float) -> TrackWithNeighbours:
    header = ListHeader(1, 0, 5, NOW, NOW, 1)
    return TrackWithNeighbours(1, _card("a", NOTHING), header, [(_card("b", NOTHING), similarity)])


def _dumped(listed: dict[str, dict[str, Any]], scores: list[float], topic: str) -> bytes:
    """The body of a list of 50, of the first of these tracks, member by member."""
    (seed, metadata), *others = listed.items()
    items = [
        {
            "track_id": track_id,
            "score": round(score, 6),
            "similarity_score": round(score, 6),
            "aspects": {},
            "rank": rank,
            "strategy_used": "similarity",
            "explanation": _sentence(score, other, metadata),
            "components": {},
            "seed": None,
            "contributions": {},
            "relaxed": [],
            **headline_fields(other, filename_of(other["extra"])),
            "metadata": other,
            "cached": True,
        }
        for rank, ((track_id, other), score) in enumerate(zip(others, scores, strict=True), start=1)
    ]
    return orjson.dumps(
        {
            "reference_track": seed,
            "reference_metadata": metadata,
            "strategy": "similarity",
            "mode": None,
            "weights": None,
            "chosen": None,
            "provisional": False,
            "relaxed": [],
            "stages": [{"stage": "candidates", "held": 50}],
            "notes": [],
            "source": {"topic": topic, "partition": 3, "offset": 5, "event_time": NOW},
            "generated_at": NOW.replace(microsecond=250),
            "recommendations": items,
        },
        option=orjson.OPT_UTC_Z,
    )


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("seed", [AWKWARD, NOTHING])
def test_a_body_put_together_is_the_one_dumped(count: int, seed: dict[str, Any]) -> None:
    """From prepared pieces come exactly the bytes that the whole object gives, whatever stands in it."""
    tracks = {
        'the "seed" \\ %d': seed,
        "音楽/三味線": AWKWARD,
        "%b": NOTHING,
        "b": AWKWARD | {"composer": " Bach"},
        "c": NOTHING | BACH,
        "d": AWKWARD | {"title": None, "extra": {"filename": 5}},
    }
    chosen = dict(list(tracks.items())[: count + 1])
    scores = [1.0000001192092896, 0.8999999761581421, 1e-05, 0.0, -0.25][:count]
    first, *others = [_card(track_id, metadata) for track_id, metadata in chosen.items()]
    header = ListHeader(1, 3, 5, NOW, NOW.replace(microsecond=250), 50)
    found = TrackWithNeighbours(1, first, header, list(zip(others, scores, strict=True)))
    body, _ = replies.list_body(found, 'a "topic"', count)
    assert body + b"}" == _dumped(chosen, scores, 'a "topic"')


def test_the_tag_of_a_list_is_that_of_its_content() -> None:
    """Equal fragments give the same tag; another score, order, text, header or note gives another."""
    header = ListHeader(1, 3, 5, NOW, NOW, 50)
    one, other = _card("b", AWKWARD), _card("c", AWKWARD)

    def tag(*neighbours: tuple[TrackFragment, float], header: ListHeader = header, wanted: int = 2) -> str:
        return replies.list_body(
            TrackWithNeighbours(1, _card("a", NOTHING), header, list(neighbours)), "t", wanted
        )[1]

    tags = [
        tag((one, 0.5), (other, 0.5)),
        tag((other, 0.5), (one, 0.5)),
        tag((one, 0.5), (other, 0.4)),
        tag((one, 0.5), (_card("c", AWKWARD | {"opus": "2"}), 0.5)),
        tag((one, 0.5), (other, 0.5), header=header._replace(source_offset=6)),
        tag((one, 0.5), (other, 0.5), wanted=3),
        tag((one, 0.5)),
        tag(),
    ]
    assert len(set(tags)) == len(tags)
    assert tag((_card("b", dict(AWKWARD)), 0.5), (_card("c", dict(AWKWARD)), 0.5)) == tags[0]


@pytest.mark.parametrize(
    ("similarity", "score"), [(1.0000001192092896, 1.0), (0.8999999761581421, 0.9), (-0.25, -0.25)]
)
def test_scores_are_rounded_to_what_float32_holds(similarity: float, score: float) -> None:
    """Float32 noise does not reach the caller, and no similarity exceeds 1."""
    assert _score(similarity) == score


@given(st.floats(-1.25, 1.25, width=32))
def test_scores_have_six_decimals(similarity: float) -> None:
    """Rounded to the nearest, whatever they are."""
    assert _score(similarity) == round(similarity, 6)


def _score(similarity: float) -> Any:
    body, _ = replies.list_body(_listed(similarity), "track-ingest", 1)
    return orjson.loads(body + b"}")["recommendations"][0]["score"]


@pytest.mark.parametrize(
    ("extra", "filename"), [({"filename": "x.mid"}, "x.mid"), ({"filename": 5}, None), ({}, None)]
)
def test_filename_is_what_the_catalogue_says(extra: dict[str, object], filename: str | None) -> None:
    """Filename comes from the extra metadata where it is text there."""
    assert replies.track_summary(StoredTrack("b", NOTHING | {"extra": extra}))["filename"] == filename


def test_a_list_that_is_shorter_than_asked_for_says_why() -> None:
    """A note names what is left and what the stored list holds; a list that is long enough has none."""
    for wanted, notes in ((1, []), (2, ["only 1 candidate is left: the stored list holds 1"])):
        body, _ = replies.list_body(_listed(0.5), "track-ingest", wanted)
        assert orjson.loads(body + b"}")["notes"] == notes


@pytest.mark.parametrize("stale", [True, False])
def test_a_finished_body_is_the_promised_one(stale: bool) -> None:
    """What changes from one delivery to the next stands behind the stored bytes, and the whole is the contract's body."""
    body, _ = replies.list_body(_listed(0.5), "track-ingest", 1)
    whole = orjson.loads(finished_body(body + b"}", FIRST, cached=True, stale=stale, milliseconds=0.2))
    assert set(whole) == set(RecommendationBody.model_fields)
    RecommendationBody.model_validate(whole)
    assert whole.pop("computation_time_ms") > 0
    assert whole.pop("behind_seconds") == 0
    assert (whole.pop("stale"), whole.pop("cached")) == (stale, True)
    assert (whole.pop("space"), whole.pop("generation")) == ("default", 1)
    assert whole == orjson.loads(body + b"}")


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('W/"x"', True),
        ('"x"', True),
        ('"y", W/"x"', True),
        ("*", True),
        ('W/"y"', False),
        ("", False),
        ("x", False),
    ],
)
def test_if_none_match_is_compared_weakly(header: str, matches: bool) -> None:
    """A tag matches with or without W/, alone or in a list, and `*` matches any."""
    assert replies.matches_tag(header, 'W/"x"') is matches


def test_metadata_is_the_contract() -> None:
    """The stored fields are those of the event contract."""
    assert set(METADATA_FIELDS) == set(TrackMetadata.model_fields)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MESS_API_ variables set them; origins are separated by commas."""
    monkeypatch.setenv("MESS_API_PORT", "9000")
    monkeypatch.setenv("MESS_API_CORS_ORIGINS", "https://a.example, https://b.example,")
    settings = ServingSettings()
    assert (settings.host, settings.port) == ("127.0.0.1", 9000)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.max_body_bytes == 1024 * 1024


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("MAX_BODY_BYTES", "0"), ("LOG_FORMAT", "xml")]
)
def test_settings_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value that cannot work is refused where it is read."""
    monkeypatch.setenv(f"MESS_API_{name}", value)
    with pytest.raises(ValidationError):
        ServingSettings()

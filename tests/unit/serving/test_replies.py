"""Explanations, entity tags, strategies and settings."""

from datetime import UTC, datetime

import orjson
import pytest
from pydantic import ValidationError

from serving import replies, strategies
from serving.explanations import Explainer
from serving.models import RecommendationBody, StrategyInfo, TrackMetadata
from serving.settings import ServingSettings
from store.columns import METADATA_FIELDS
from store.reads import ListHeader, Neighbours, StoredTrack
from streams.strategies.registry import describe

pytestmark = pytest.mark.unit

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
    assert Explainer(BACH).similarity(other, 0.9141) == expected


def test_anonymous_works_share_no_composer() -> None:
    """Nobody known in common is not a reason."""
    trad = {"composer": "Traditional", "form": "reel"}
    assert Explainer(trad).similarity(trad, 0.5) == "Cosine similarity 0.500; same form (reel)"


def _neighbours(similarity: float, extra: dict[str, object]) -> Neighbours:
    metadata = {**dict.fromkeys(METADATA_FIELDS), "tags": [], "extra": extra}
    now = datetime(2026, 2, 3, tzinfo=UTC)
    header = ListHeader(1, 0, 5, now, now, 1, behind=False)
    track = StoredTrack("a", metadata)
    return Neighbours(track, header, [(StoredTrack("b", metadata), similarity)])


@pytest.mark.parametrize(
    ("similarity", "score"), [(1.0000001192092896, 1.0), (0.8999999761581421, 0.9), (-0.25, -0.25)]
)
def test_scores_are_rounded_to_what_float32_holds(similarity: float, score: float) -> None:
    """Float32 noise does not reach the caller, and no similarity exceeds 1."""
    found = _neighbours(similarity, {})
    assert found.header is not None
    body = replies.recommendation_bytes(found, found.header, "track-ingest", 1)
    assert orjson.loads(body + b"}")["recommendations"][0]["score"] == score


@pytest.mark.parametrize(
    ("extra", "filename"), [({"filename": "x.mid"}, "x.mid"), ({"filename": 5}, None), ({}, None)]
)
def test_filename_is_what_the_catalogue_says(extra: dict[str, object], filename: str | None) -> None:
    """Filename comes from the extra metadata where it is text there."""
    found = _neighbours(0.5, extra)
    assert replies.summary(found.track)["filename"] == filename


def test_a_list_that_is_shorter_than_asked_for_says_why() -> None:
    """A note names what is left and what the stored list holds; a list that is long enough has none."""
    found = _neighbours(0.5, {})
    assert found.header is not None
    for wanted, notes in ((1, []), (2, ["only 1 candidate is left: the stored list holds 1"])):
        body = replies.recommendation_bytes(found, found.header, "track-ingest", wanted)
        assert orjson.loads(body + b"}")["notes"] == notes


@pytest.mark.parametrize("stale", [True, False])
def test_a_sealed_body_is_the_promised_one(stale: bool) -> None:
    """What changes from one delivery to the next stands behind the stored bytes, and the whole is the contract's body."""
    found = _neighbours(0.5, {})
    assert found.header is not None
    body = replies.recommendation_bytes(found, found.header, "track-ingest", 1)
    whole = orjson.loads(replies.sealed(body, stale=stale, began=0.0))
    assert set(whole) == set(RecommendationBody.model_fields)
    RecommendationBody.model_validate(whole)
    assert whole.pop("computation_time_ms") > 0
    assert (whole.pop("stale"), whole.pop("cached")) == (stale, True)
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


def test_the_strategies_named_are_those_there_are() -> None:
    """What an API tells without being told more has the names, modes and aliases of the strategies themselves."""
    described = {each["name"]: each for each in describe()}
    assert [each["name"] for each in strategies.NAMED] == list(described)
    for named in strategies.NAMED:
        known = described[named["name"]]
        assert named.keys() == known.keys()
        assert [mode["name"] for mode in named["modes"]] == [mode["name"] for mode in known["modes"]]
        assert named["aliases"] == known["aliases"]
        assert named["default_mode"] == known["default_mode"]
        StrategyInfo.model_validate(known)


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

"""What recordings' files say of themselves, in every format's own way."""

from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3

from streams.contracts import TrackMetadata
from streams.producers.audio.tags import tagged_facts

pytestmark = pytest.mark.unit

RATE = 16_000


def recording(path: Path, seconds: float = 1.0) -> Path:
    """Silence in the format of the file's suffix."""
    soundfile.write(path, np.zeros(int(seconds * RATE), np.float32), RATE)
    return path


def tagged(path: Path, tags: dict[str, Any]) -> Path:
    """A recording with tags under mutagen's names."""
    file = mutagen.File(recording(path), easy=True)
    if file.tags is None:
        file.add_tags()
    file.update(tags)
    file.save()
    return path


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg"])
def test_tags_become_fields(tmp_path: Path, name: str) -> None:
    """Whatever the format calls them; empty ones are none."""
    tags = {
        "title": "Air",
        "album": " ",
        "artist": ["Anna", "Bert"],
        "genre": ["Jazz", "Live"],
        "date": "1999-12-31",
        "musicbrainz_trackid": "0c8b2a10-0000-4000-8000-000000000000",
    }
    facts = tagged_facts(tagged(tmp_path / name, tags))
    assert facts.pop("duration_seconds") == pytest.approx(1, abs=0.2)
    assert facts == {
        "title": "Air",
        "artist": "Anna, Bert",
        "artists": ["Anna", "Bert"],
        "tags": ["Jazz", "Live"],
        "recording_date": "1999-12-31",
        "musicbrainz_recording_id": "0c8b2a10-0000-4000-8000-000000000000",
    }
    assert TrackMetadata.model_validate(facts).artists == ("Anna", "Bert")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_frames_of_files_without_easy_names_are_known(tmp_path: Path, name: str) -> None:
    """WAV and AIFF carry ID3 as it is."""
    path = recording(tmp_path / name)
    file = mutagen.File(path)
    file.add_tags()
    for frame in (
        id3.TIT2(text="Air"),
        id3.TPE1(text=["Anna"]),
        id3.TCON(text="Jazz"),
        id3.TDRC(text="1999"),
        id3.COMM(lang="eng", desc="", text="not a field"),
    ):
        file.tags.add(frame)
    file.save()
    assert tagged_facts(path) == {
        "title": "Air",
        "artist": "Anna",
        "tags": ["Jazz"],
        "recording_date": "1999",
        "duration_seconds": 1.0,
    }


def test_a_recording_without_tags_has_its_length(tmp_path: Path) -> None:
    """To a thousandth of a second."""
    assert tagged_facts(recording(tmp_path / "a.wav", 1.2344)) == {"duration_seconds": 1.234}


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00WAVE", b"fLaC\x00", b"no recording"])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    """Whether it can be heard is found out by whoever decodes it."""
    for name in ("a.wav", "a.flac", "a.mp3"):
        (tmp_path / name).write_bytes(content)
        assert tagged_facts(tmp_path / name) == {}
    assert tagged_facts(tmp_path / "missing.wav") == {}

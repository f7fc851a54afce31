"""Recordings of every kind, embedded by the real network and published: its weights come from the package index, once."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.id3 import TALB, TIT2, TPE1

from mess.models import ModelUnavailableError, fetch_weights
from streams.contracts import TrackUpsert, parse_track_event
from streams.producers.audio.decoding import UnreadableRecordingError, samples_of
from streams.producers.audio.embedding import MusicnnEmbedder
from streams.producers.audio.recordings import RecordingFolder
from streams.producers.items import RefusedRecord, SourceError, TrackItem
from streams.producers.tables import MetadataTable
from streams.strategies.aspects import Layout
from tests.integration.producers.conftest import Mess
from tests.unit.producers.audio.clips import RATE, clips

pytestmark = pytest.mark.integration

REFERENCE = Path(__file__).parents[2] / "unit" / "producers" / "audio" / "reference.npz"
RECORDING = "b1a9c0e9-d987-4042-ae91-78d6a3267d69"


@pytest.fixture(scope="session")
def weights() -> Path:
    """The network's weights, from the cache or the package index. Where neither has them, CI fails and others skip."""
    try:
        return fetch_weights()
    except ModelUnavailableError as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def network(weights: Path) -> MusicnnEmbedder:
    """The network."""
    return MusicnnEmbedder(weights)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: Any) -> Path:
    """Write a recording, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def read(folder: RecordingFolder) -> tuple[dict[str, TrackUpsert], dict[str, RefusedRecord]]:
    """What a folder sends, as validation reads it, and what it refuses, by where it is."""
    sent: dict[str, TrackUpsert] = {}
    refused: dict[str, RefusedRecord] = {}
    for record in folder.records(None):
        if isinstance(record, TrackItem):
            upsert = parse_track_event(record.key, record.value, layout=Layout(200))
            assert isinstance(upsert, TrackUpsert)
            sent[upsert.track_id] = upsert
        elif record is not None:
            refused[record.where] = record
    return sent, refused


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine similarity."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("name", clips())
def test_a_recording_has_the_vector_of_the_original_network(
    network: MusicnnEmbedder, tmp_path: Path, name: str
) -> None:
    """From the file to the averaged penultimate layer, within 1e-4 of TensorFlow on the same weights."""
    path = write(tmp_path / "clip.wav", clips()[name], subtype="FLOAT")
    vector = network.embed(samples_of(path, RATE))
    with np.load(REFERENCE) as reference:
        assert np.abs(vector - reference[f"{name}_embedding"]).max() < 1e-4


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 60_000), max_size=6), length=st.integers(1, 130_000))
def test_a_vector_does_not_depend_on_how_the_samples_come(
    network: MusicnnEmbedder, cuts: list[int], length: int
) -> None:
    """In any blocks, of any length: as all at once."""
    samples = clips()["tune"][:length]
    parts = np.split(samples, sorted(min(cut, length) for cut in cuts))
    assert np.array_equal(network.embed(parts), network.embed([samples]))


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One tune in every kind that libsndfile reads: rates, channels, codecs."""
    folder = tmp_path_factory.mktemp("variants")
    tune = clips()["tune"]
    stereo = np.stack([tune, 0.5 * tune], axis=1)
    high = soxr.resample(tune, RATE, 44_100)
    yield {
        path.name: path
        for path in (
            write(folder / "16k.wav", tune),
            write(folder / "24bit.wav", high, 44_100, subtype="PCM_24"),
            write(folder / "stereo.flac", soxr.resample(stereo, RATE, 48_000), 48_000),
            write(folder / "vorbis.ogg", high, 44_100),
            write(
                folder / "opus.opus", soxr.resample(tune, RATE, 48_000), 48_000, format="OGG", subtype="OPUS"
            ),
            write(folder / "LAME.MP3", high, 44_100, format="MP3"),
            write(folder / "8bit.aiff", high, 44_100, subtype="PCM_S8"),
            write(folder / "phone.au", soxr.resample(tune, RATE, 22_050), 22_050, subtype="ULAW"),
        )
    }
    shutil.rmtree(folder)


def test_a_recording_is_the_same_in_every_kind(network: MusicnnEmbedder, variants: dict[str, Path]) -> None:
    """Codec, rate and channels change its vector a little; another tune is further away."""
    original = network.embed([clips()["tune"]])
    other = cosine(original, network.embed([clips()["beat"]]))
    for name, path in variants.items():
        assert cosine(original, network.embed(samples_of(path, RATE))) > max(0.9, other), name


def test_a_folder_is_published_with_what_its_files_say(weights: Path, tmp_path: Path) -> None:
    """Ids are paths, tags are metadata in FLAC, MP3, Ogg and WAV alike, and a row of a table counts more than a tag."""
    tune = clips()["tune"][: 4 * RATE]
    tagged = {
        "title": "Aria",
        "artist": ["Amandine Beyer", "Pierre Hantaï"],
        "album": "Goldberg",
        "composer": "Bach",
        "date": "1981-04-22",
        "genre": ["Baroque", "Keyboard"],
        "musicbrainz_trackid": RECORDING,
    }
    for name in ("A/01 Intro.flac", "B/01 Intro.ogg", "c.mp3"):
        write(tmp_path / name, tune)
        file = mutagen.File(tmp_path / name, easy=True)
        assert file is not None
        if file.tags is None:
            file.add_tags()
        file.update(tagged)
        file.save()
    write(tmp_path / "d.wav", tune)
    wave = mutagen.File(tmp_path / "d.wav")
    assert wave is not None
    wave.add_tags()
    for frame in (TIT2(text="Aria"), TPE1(text=tagged["artist"]), TALB(text="Goldberg")):
        wave.tags.add(frame)
    wave.save()
    write(tmp_path / "e.wav", tune)
    write(tmp_path / "e.flac", tune)
    table = MetadataTable.of([{"filename": "B/01 Intro.mp3", "title": "Overture"}])
    sent, refused = read(RecordingFolder(tmp_path, MusicnnEmbedder(weights), table))
    assert refused == {}
    assert list(sent) == ["A/01 Intro", "B/01 Intro", "c", "d", "e.flac", "e.wav"]
    for name in ("A/01 Intro", "c"):
        metadata = sent[name].metadata
        assert (metadata.title, metadata.album, metadata.composer) == ("Aria", "Goldberg", "Bach")
        assert metadata.artist == "Amandine Beyer, Pierre Hantaï"
        assert metadata.artists == ("Amandine Beyer", "Pierre Hantaï")
        assert (metadata.recording_date, metadata.tags) == ("1981-04-22", ("Baroque", "Keyboard"))
        assert metadata.musicbrainz_recording_id == RECORDING
        assert metadata.duration_seconds == pytest.approx(4, abs=0.1)
        assert metadata.unread == ()
    assert (sent["d"].metadata.title, sent["d"].metadata.album) == ("Aria", "Goldberg")
    assert sent["B/01 Intro"].metadata.title == "Overture"
    assert sent["B/01 Intro"].metadata.album == "Goldberg"
    assert sent["e.wav"].metadata.title == "e"
    assert sent["c"].metadata.extra == {"filename": "c.mp3", "embedding_model": "musicnn-msd"}


def test_what_cannot_be_read_is_named_and_the_rest_goes_in(weights: Path, tmp_path: Path) -> None:
    """Empty, damaged, silent and short files, and those that are no sound; hidden ones and pictures are none at all."""
    tune = clips()["tune"]
    whole = write(tmp_path / "whole.flac", tune).read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
    (tmp_path / "damaged.flac").write_bytes(damaged)
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.wav").write_text("no sound at all\n" * 100)
    write(tmp_path / "nothing.wav", tune[:0])
    write(tmp_path / "short.wav", tune[:100])
    write(tmp_path / "silent.wav", np.zeros(4 * RATE))
    write(tmp_path / "nan.wav", np.full(4 * RATE, np.nan), subtype="FLOAT")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "score.mid").write_bytes(b"MThd")
    (tmp_path / "._whole.flac").write_bytes(b"a resource fork")
    folder = RecordingFolder(tmp_path, MusicnnEmbedder(weights))
    sent, refused = read(folder)
    assert set(sent) >= {"whole", "short", "silent"}
    assert set(refused) >= {"empty.mp3", "text.wav", "nothing.wav", "nan.wav"}
    assert {"damaged"} <= {*sent, *(record.track_id or "" for record in refused.values())}
    assert refused["nothing.wav"].detail == "it holds no sound"
    assert refused["nan.wav"].reason == "not_finite"
    assert folder.report.notes == ["2 files are no recordings by their names: cover.jpg, score.mid"]


def test_what_libsndfile_cannot_read_goes_to_ffmpeg(network: MusicnnEmbedder, tmp_path: Path) -> None:
    """AAC in an MP4; without ffmpeg it is said that there is none."""
    ffmpeg = shutil.which("ffmpeg")
    path = tmp_path / "tune.m4a"
    if ffmpeg is None:
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
        with pytest.raises(UnreadableRecordingError, match=r"libsndfile cannot read it .* no ffmpeg"):
            list(samples_of(path, RATE))
        return
    wave = write(tmp_path / "tune.wav", clips()["tune"])
    subprocess.run([ffmpeg, "-v", "error", "-i", str(wave), str(path)], check=True)
    vector = network.embed(samples_of(path, RATE))
    assert cosine(vector, network.embed(samples_of(wave, RATE))) > 0.95
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableRecordingError, match=r"neither libsndfile .* nor ffmpeg"):
        list(samples_of(path, RATE))


def test_what_is_missing_is_said_before_anything_is_read(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network, a broken one, no extra, no recordings, no folder."""
    with pytest.raises(SourceError, match="is not a folder"):
        RecordingFolder(tmp_path / "nowhere", MusicnnEmbedder(weights))
    with pytest.raises(SourceError, match="holds no recordings"):
        RecordingFolder(tmp_path, MusicnnEmbedder(weights))
    write(tmp_path / "a.wav", clips()["tune"])
    with pytest.raises(SourceError, match="mess models fetch"):
        RecordingFolder(tmp_path, MusicnnEmbedder(tmp_path / "weights.npz"))
    (tmp_path / "weights.npz").write_bytes(b"PK nothing")
    with pytest.raises(SourceError, match="remove it"):
        RecordingFolder(tmp_path, MusicnnEmbedder(tmp_path / "weights.npz"))
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(SourceError, match=r"pip install 'mess-ai\[audio\]'"):
        RecordingFolder(tmp_path, MusicnnEmbedder(weights))


def test_another_file_is_not_taken_for_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel whose hash is not the known one, and one that is not there."""
    monkeypatch.setenv("MESS_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "other.whl").write_bytes(b"PK")
    with pytest.raises(ModelUnavailableError, match="its hash differs"):
        fetch_weights(tmp_path / "other.whl")
    with pytest.raises(ModelUnavailableError, match="No such file"):
        fetch_weights(tmp_path / "missing.whl")


def test_publish_sends_a_folder_of_recordings(mess: Mess, weights: Path) -> None:
    """Through a broker, with one file that is refused: exit code 1, all others are there."""
    for name, samples in clips().items():
        write(mess.folder / "music" / f"{name}.flac", samples)
    (mess.folder / "music" / "broken.mp3").write_bytes(b"nothing")
    done = mess.run("publish", "--audio", "music", "--report", "report.json")
    assert done.returncode == 1, done.stderr
    assert "3 published, 1 refused" in done.stdout
    assert "refused broken.mp3: unreadable_file" in done.stderr
    events = {message["key"]: message["value"] for message in mess.messages("track-ingest")}
    assert events.keys() == clips().keys()
    assert events["tune"]["metadata"]["duration_seconds"] == 10
    assert json.loads((mess.folder / "report.json").read_bytes())["refused_by_reason"] == {
        "unreadable_file": 1
    }
    both = mess.run("publish", "music", "--audio", "music")
    assert (both.returncode, "Give one file" in both.stderr) == (2, True)


def test_publish_says_which_options_recordings_do_not_take(offline: Mess) -> None:
    """Options of files of embeddings, layers of a network that has none, a model without recordings, one without torch."""
    (offline.folder / "music").mkdir()
    (offline.folder / "mert").mkdir()
    for arguments, said in (
        (("--audio", "music", "--key", "x"), "are for embeddings, not for --audio"),
        (("--audio", "music", "--pool", "layer 3"), "--pool goes with --model"),
        (("music", "--model", "mert"), "give their folder with --audio"),
        (("music", "--ids", "ids.txt"), "--ids belongs to one .npy, .npz or HDF5 file"),
        (("music/a.npy", "--layout", "raw"), "--layout belongs to a folder of features"),
    ):
        done = offline.run("publish", *arguments, "--dry-run")
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    if importlib.util.find_spec("torch") is None:
        done = offline.run("publish", "--audio", "music", "--model", "mert", "--dry-run")
        assert "MERT models need torch, which is not installed: pip install 'mess-ai[mert]'" in done.stderr

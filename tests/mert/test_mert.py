"""Recordings embedded by a small MERT that the test makes: random weights, in the files that the published ones are in."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch", reason="`make mert-test` has it", exc_type=ImportError)
transformers: Any = pytest.importorskip("transformers", reason="`make mert-test` has it")
soundfile: Any = pytest.importorskip("soundfile")

from streams.contracts import TrackUpsert, parse_track_event  # noqa: E402 -- behind what may not be there
from streams.producers.audio.decoding import UnreadableRecordingError  # noqa: E402
from streams.producers.audio.mert import MertEmbedder  # noqa: E402
from streams.producers.audio.recordings import RecordingFolder  # noqa: E402
from streams.producers.axes import Pooling  # noqa: E402
from streams.producers.items import SourceError, TrackItem  # noqa: E402
from streams.strategies.aspects import Layout  # noqa: E402

pytestmark = pytest.mark.mert

RATE = 24_000
LAYERS, WIDTH = 4, 12
CONFIG = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS - 1,
    "num_attention_heads": 3,
    "intermediate_size": 24,
    "conv_dim": [8, 8, 8, 8, 8, 8, 8],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def noise(seconds: float) -> np.ndarray:
    """Samples that are the same everywhere."""
    return np.random.default_rng(5).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def original() -> Any:
    """The network that is saved."""
    torch.manual_seed(5)
    return transformers.HubertModel(transformers.HubertConfig(**CONFIG)).eval()


def save(folder: Path, network: Any, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Write a network as MERT is published: its own type, code of its own, weights as PyTorch named them in 2023."""
    folder.mkdir()
    config = {
        **CONFIG,
        "model_type": "mert_model",
        "architectures": ["MERTModel"],
        "auto_map": {
            "AutoConfig": "configuration_MERT.MERTConfig",
            "AutoModel": "modeling_MERT.MERTModel",
        },
        "sample_rate": RATE,
        "feature_extractor_cqt": False,
        "deepnorm": False,
        "torch_dtype": "float32",
        "transformers_version": "4.25.1",
    }
    if change is not None:
        change(config)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_MERT.py", "modeling_MERT.py"):
        (folder / name).write_text("raise SystemExit('code of the folder was run')\n")
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": RATE,
        "do_normalize": True,
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for name, tensor in network.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)  # noqa: PLW2901
        weights[name] = tensor
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def folder(original: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in a folder."""
    return save(tmp_path_factory.mktemp("models") / "MERT-tiny", original)


def by_hand(network: Any, samples: np.ndarray) -> np.ndarray:
    """All layers' frames averaged over windows of five seconds, (layers, width), from the network in memory."""
    frames = []
    for at in range(0, len(samples), 5 * RATE):
        window = samples[at : at + 5 * RATE]
        if len(window) < RATE:
            continue
        normal = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
        with torch.no_grad():
            states = network(torch.tensor(normal)[None], output_hidden_states=True).hidden_states
        frames.append(np.stack([each[0].numpy() for each in states]))
    return np.concatenate(frames, axis=1).mean(axis=1)


def test_a_vector_is_the_mean_of_all_layers_over_time(original: Any, folder: Path) -> None:
    """As the network in memory has it; one layer and all of them likewise. What is behind 10.5 s is no second long."""
    samples = noise(10.5)
    expected = by_hand(original, samples)
    assert expected.shape == (LAYERS, WIDTH)
    for pool, wanted in (
        ("mean", expected.mean(axis=0)),
        ("layer 2", expected[2]),
        ("flatten", expected.ravel()),
    ):
        vector = MertEmbedder(folder, Pooling.parse(pool)).embed([samples])
        assert np.abs(vector - wanted).max() < 1e-5, pool
    longer = MertEmbedder(folder).embed([noise(12)])
    assert np.abs(longer - by_hand(original, noise(12)).mean(axis=0)).max() < 1e-5


@pytest.mark.parametrize("size", [1, 777, 5 * RATE, 7 * RATE])
def test_a_vector_does_not_depend_on_how_the_samples_come(folder: Path, size: int) -> None:
    """In blocks of any length: as all at once."""
    samples = noise(0.01 if size == 1 else 11)
    network = MertEmbedder(folder)
    blocks = [samples[at : at + size] for at in range(0, len(samples), size)]
    assert np.array_equal(network.embed(blocks), network.embed([samples]))


def test_a_short_recording_is_followed_by_silence_and_an_empty_one_is_none(folder: Path) -> None:
    """Up to a second."""
    network = MertEmbedder(folder)
    short = network.embed([noise(0.2)])
    assert np.array_equal(short, network.embed([np.pad(noise(0.2), (0, round(0.8 * RATE)))]))
    with pytest.raises(UnreadableRecordingError, match="it holds no sound"):
        network.embed([])


def test_weights_are_read_from_safetensors_too(original: Any, folder: Path, tmp_path: Path) -> None:
    """As `save_pretrained` writes them, of HuBERT's own type."""
    original.save_pretrained(tmp_path / "saved")
    preprocessor = (folder / "preprocessor_config.json").read_bytes()
    (tmp_path / "saved" / "preprocessor_config.json").write_bytes(preprocessor)
    assert list((tmp_path / "saved").glob("*.safetensors"))
    vector = MertEmbedder(tmp_path / "saved").embed([noise(2)])
    assert np.abs(vector - MertEmbedder(folder).embed([noise(2)])).max() < 1e-6


def test_a_folder_of_recordings_is_embedded_at_the_models_rate(
    original: Any, folder: Path, tmp_path: Path
) -> None:
    """Two at a time; the vector says what made it, and a file that is no recording is refused by name."""
    for name, rate in (("a.wav", RATE), ("b.flac", RATE), ("c.ogg", 44_100)):
        soundfile.write(tmp_path / name, noise(3)[: 2 * RATE], rate)
    (tmp_path / "d.mp3").write_bytes(b"nothing")
    source = RecordingFolder(tmp_path, MertEmbedder(folder, Pooling("flatten")), jobs=2)
    sent, refused = {}, []
    for record in source.records(None):
        if isinstance(record, TrackItem):
            upsert = parse_track_event(record.key, record.value, layout=Layout(LAYERS * WIDTH))
            assert isinstance(upsert, TrackUpsert)
            sent[upsert.track_id] = upsert
        else:
            refused.append(record)
    assert (list(sent), [each.where for each in refused if each]) == (["a", "b", "c"], ["d.mp3"])
    assert sent["a"].metadata.extra["embedding_model"] == "MERT-tiny (flatten)"
    assert source.fingerprint()["model"] == "MERT-tiny (flatten)"
    expected = by_hand(original, noise(3)[: 2 * RATE]).ravel()
    expected /= np.linalg.norm(expected)
    for track_id in ("a", "b"):
        vector = np.asarray(sent[track_id].vector)
        assert np.abs(vector / np.linalg.norm(vector) - expected).max() < 1e-3


def without(part: str) -> Callable[[dict[str, Any]], None]:
    """A change of a configuration that asks for a part of MERT's own."""
    return lambda config: config.update({part: True})


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json cannot be read .* give the folder of a MERT"),
        (lambda f: (f / "config.json").write_text("{"), "is no JSON document"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "type 'bert', not of MERT"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda f: (f / "pytorch_model.bin").unlink(), "weights in .* cannot be read"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"PK nothing"), "weights in .* cannot be read"),
        (lambda f: torch.save({}, f / "pytorch_model.bin"), "of its tensors are missing, such as encoder"),
    ],
    ids=["no config", "no JSON", "another type", "no preprocessor", "no weights", "damaged", "other weights"],
)
def test_what_is_wrong_with_a_folder_is_said(
    original: Any, tmp_path: Path, broken: Callable[[Path], object], said: str
) -> None:
    """One line each, with what to do, before any recording is read."""
    folder = save(tmp_path / "model", original)
    broken(folder)
    with pytest.raises(SourceError, match=said) as error:
        MertEmbedder(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["feature_extractor_cqt", "deepnorm"])
def test_parts_that_only_the_models_own_code_has_are_refused(
    original: Any, tmp_path: Path, part: str
) -> None:
    """Rather than left out."""
    folder = save(tmp_path / "model", original, without(part))
    with pytest.raises(SourceError, match=f"asks for {part}"):
        MertEmbedder(folder)


def test_weights_of_another_size_and_layers_that_are_not_there_are_refused(
    original: Any, folder: Path, tmp_path: Path
) -> None:
    """A configuration that does not fit, and `layer 9` of 4."""
    other = save(tmp_path / "model", original, lambda config: config.update({"hidden_size": 24}))
    with pytest.raises(SourceError, match="weights in"):
        MertEmbedder(other)
    with pytest.raises(SourceError, match="has 4 layers: there is no layer 9"):
        MertEmbedder(folder, Pooling(9))


@pytest.mark.parametrize("name", ["torch", "transformers"])
def test_what_is_not_installed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With what installs it."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SourceError, match=rf"{name}, which is not installed: pip install 'mess-ai\[mert\]'"):
        MertEmbedder(folder)

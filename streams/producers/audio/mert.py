"""A recording's vector by MERT (Li et al., 2023, arXiv:2306.00107), from a folder with its weights, run by transformers.

MERT is a HuBERT trained on music: `HubertModel` gives the same from the same weights. No code of the folder is run.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.producers.audio.decoding import Samples, UnreadableRecordingError
from streams.producers.axes import Pooling, Roles
from streams.producers.extras import import_extra
from streams.producers.items import SourceError

# What MERT saw at a time in training; what is shorter than the second has too few frames to say anything.
_WINDOW_SECONDS: Final = 5
_SHORTEST_SECONDS: Final = 1
_TYPES: Final = frozenset({"mert_model", "hubert"})
# Parts that HuBERT does not have; published weights of MERT do without them.
_UNKNOWN_PARTS: Final = ("feature_extractor_cqt", "deepnorm")
# It stands for masked frames, and nothing is masked here.
_UNUSED_WEIGHTS: Final = frozenset({"masked_spec_embed"})
_ROLES: Final[Roles] = ("layers", "width")
_WANTED: Final = "give the folder of a MERT model, with config.json, preprocessor_config.json and its weights"


class MertEmbedder:
    """Vectors by MERT: all layers' frames averaged over time, in windows of 5 s, and the layers then pooled.

    What is behind the last whole window counts if it is longer than a second; a recording shorter than a second is
    followed by silence.

    Args:
        folder: The model, as its publisher has it.
        pooling: How layers become one vector; None: their mean.

    Raises:
        SourceError: the extra `mert` is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: Path, pooling: Pooling | None = None) -> None:
        # Nothing is to be looked up elsewhere, whatever the files of the folder name.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        self._torch: Any = import_extra("torch", "MERT models", "mert")
        transformers: Any = import_extra("transformers", "MERT models", "mert")
        self._pooling = pooling or Pooling()
        config = _config(folder, transformers)
        _check_layer(self._pooling, config.num_hidden_layers + 1)
        self._extractor = _extractor(folder, transformers)
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        # Files are what runs side by side.
        self._torch.set_num_threads(1)
        self._model = _model(folder, config, transformers).float().eval().to(self._device)
        self.model = f"{folder.resolve().name} ({self._pooling})"
        self.rate = int(self._extractor.sampling_rate)

    def embed(self, blocks: Iterable[Samples]) -> npt.NDArray[np.float64]:
        """Return the vector of a recording: float64 (width,), or (layers * width,) for `flatten`."""
        total: npt.NDArray[np.float64] | None = None
        frames = 0
        for window in self._windows(blocks):
            states = self._states(window)
            summed = states.sum(axis=1, dtype=np.float64)
            total = summed if total is None else total + summed
            frames += states.shape[1]
        if total is None:
            raise UnreadableRecordingError("it holds no sound")
        return self._pooling.pool(total / frames, _ROLES)

    def _windows(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        length, shortest = _WINDOW_SECONDS * self.rate, _SHORTEST_SECONDS * self.rate
        rest, any_yet = np.empty(0, dtype=np.float32), False
        for block in blocks:
            rest = np.concatenate([rest, block])
            while len(rest) >= length:
                yield rest[:length]
                rest, any_yet = rest[length:], True
        if len(rest) >= shortest:
            yield rest
        elif len(rest) and not any_yet:
            yield np.pad(rest, (0, shortest - len(rest)))

    def _states(self, window: Samples) -> npt.NDArray[np.float32]:
        """What every layer makes of a window, (layers, t, width)."""
        with self._torch.inference_mode():
            given = self._extractor(window, sampling_rate=self.rate, return_tensors="pt").to(self._device)
            layers = self._model(**given, output_hidden_states=True).hidden_states
            states: npt.NDArray[np.float32] = self._torch.cat(layers).cpu().numpy()
            return states


def _config(folder: Path, transformers: Any) -> Any:
    path = folder / "config.json"
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): {_WANTED}") from error
    except ValueError as error:
        raise SourceError(f"{path} is no JSON document ({error}): {_WANTED}") from error
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind not in _TYPES:
        raise SourceError(f"{path} is of a model of type {kind!r}, not of MERT or HuBERT: {_WANTED}")
    for part in _UNKNOWN_PARTS:
        if document.get(part):
            raise SourceError(
                f"{path} asks for {part}, which only code of the model's own has: that is not run here"
            )
    known = transformers.HubertConfig().to_dict().keys() - {"model_type", "transformers_version"}
    return transformers.HubertConfig(**{name: document[name] for name in known & document.keys()})


def _check_layer(pooling: Pooling, layers: int) -> None:
    if isinstance(pooling.mode, int) and pooling.mode >= layers:
        raise SourceError(f"the model has {layers} layers: there is no {pooling} (they count from 0)")


def _extractor(folder: Path, transformers: Any) -> Any:
    try:
        return transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{folder} holds no preprocessor_config.json that can be read: {_WANTED}"
        ) from error


def _model(folder: Path, config: Any, transformers: Any) -> Any:
    try:
        model, loading = transformers.HubertModel.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # pickle, safetensors and zip files each fail in their own way
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"the weights in {folder} cannot be read: {line}") from error
    if missing := sorted(set(loading["missing_keys"]) - _UNUSED_WEIGHTS):
        raise SourceError(
            f"the weights in {folder} are not of this model: {len(missing):,} of its tensors are missing, "
            f"such as {missing[0]}"
        )
    return model

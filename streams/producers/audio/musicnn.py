"""The network of musicnn trained on the Million Song Dataset, up to its penultimate layer, in numpy.

Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019. The architecture is that of
the package `musicnn` 0.1.0 (ISC licence), whose weights it runs on.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.producers.audio.mel import BANDS

# Frames of a patch: three seconds.
PATCH: Final = 187
WIDTH: Final = 200

Array = npt.NDArray[np.float32]

# What TensorFlow adds to a variance where it is told nothing.
_EPSILON: Final = 1e-3
# Weights that training has shrunk to nothing.
_NOTHING: Final = 1e-10
# Layer: its convolution, its normalisation.
_TIMBRAL: Final = (("conv2d", 1), ("conv2d_1", 2))
_TEMPORAL: Final = (("conv2d_2", 3), ("conv2d_3", 4), ("conv2d_4", 5))
_MIDDLE: Final = (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8))
_POOLED, _PENULTIMATE = 9, 10
_NORMS: Final = ("gamma", "beta", "moving_mean", "moving_variance")


def _norm_name(number: int) -> str:
    return "batch_normalization" + (f"_{number}" if number else "")


# Every tensor that the layers up to the penultimate need.
TENSORS: Final = (
    *(
        f"{name}/{part}"
        for name in (*(name for name, _ in (*_TIMBRAL, *_TEMPORAL, *_MIDDLE)), "dense")
        for part in ("kernel", "bias")
    ),
    *(f"{_norm_name(number)}/{part}" for number in range(_PENULTIMATE + 1) for part in _NORMS),
)


class MusicNetwork:
    """Embeds patches of log-mel frames.

    Filters whose weights have become nothing in training, two in three of the first layer's, are constants and are not
    computed.

    Args:
        tensors: Those of `TENSORS`, by name.
    """

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        norms = [_Scale(tensors, number) for number in range(_PENULTIMATE + 1)]
        self._input = norms[0]
        self._pooled, self._penultimate = norms[_POOLED], norms[_PENULTIMATE]
        self._timbral = [_Timbral(tensors, name, norms[number]) for name, number in _TIMBRAL]
        self._temporal = [_Temporal(tensors, name, norms[number]) for name, number in _TEMPORAL]
        self._middle = [(_matrix(tensors, name), tensors[f"{name}/bias"], norms[n]) for name, n in _MIDDLE]
        self._dense, self._bias = tensors["dense/kernel"], tensors["dense/bias"]

    def embed(self, patch: Array) -> Array:
        """The penultimate layer of one patch.

        Args:
            patch: float32 (PATCH, BANDS) of `log_mel`.

        Returns:
            float32 (WIDTH,).
        """
        assert patch.shape == (PATCH, BANDS)
        given = self._input.apply(patch)
        front = np.concatenate(
            [
                *(bank.answers(_in_time(given)) for bank in self._timbral),
                *(bank.answers(given) for bank in self._temporal),
            ],
            axis=1,
        )
        layers = [front]
        for matrix, bias, scale in self._middle:
            made = scale.apply(np.maximum(_in_time(layers[-1]) @ matrix + bias, 0))
            # From the second on each is added to the one before.
            layers.append(made if len(layers) == 1 else made + layers[-1])
        features = np.concatenate(layers, axis=1)
        pooled = np.stack([features.max(axis=0), features.mean(axis=0)], axis=1).reshape(-1)
        dense = np.maximum(self._pooled.apply(pooled) @ self._dense + self._bias, 0)
        return self._penultimate.apply(dense)


class _Scale:
    """A batch normalisation that has been learned: one product and one sum."""

    def __init__(self, tensors: Mapping[str, Array], number: int) -> None:
        gamma, beta, mean, variance = (tensors[f"{_norm_name(number)}/{part}"] for part in _NORMS)
        factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + _EPSILON)
        self.factor = factor.astype(np.float32)
        self.offset = (beta - mean * factor).astype(np.float32)

    def apply(self, values: Array) -> Array:
        return values * self.factor + self.offset


class _FilterBank:
    """Filters over time and frequency, of which the strongest answer over all frequencies counts.

    A filter at all its places is one matrix, mostly zeros: its product takes less time than windows take to be copied.
    """

    def __init__(self, tensors: Mapping[str, Array], name: str, scale: _Scale) -> None:
        kernel, self._bias, self._scale = tensors[f"{name}/kernel"], tensors[f"{name}/bias"], scale
        alive = np.abs(kernel).max(axis=(0, 1, 2)) > _NOTHING
        # The strongest answer behind a negative factor is the weakest before it.
        self._largest = np.flatnonzero(alive & (scale.factor >= 0))
        self._smallest = np.flatnonzero(alive & (scale.factor < 0))
        self._kernel = kernel[:, :, 0, [*self._largest, *self._smallest]]

    def _strongest(self, answers: Array) -> Array:
        """Of answers (t, places, filters) the strongest of each filter that is computed, and what the others always say."""
        found = np.zeros((len(answers), len(self._bias)), dtype=np.float32)
        split = len(self._largest)
        found[:, self._largest] = answers[:, :, :split].max(axis=1)
        found[:, self._smallest] = answers[:, :, split:].min(axis=1)
        return self._scale.apply(np.maximum(found + self._bias, 0))


class _Timbral(_FilterBank):
    """Filters of seven frames and many bands, at every band."""

    def __init__(self, tensors: Mapping[str, Array], name: str, scale: _Scale) -> None:
        super().__init__(tensors, name, scale)
        height, width, count = self._kernel.shape
        self._places = BANDS - width + 1
        matrix = np.zeros((height, BANDS, self._places, count), dtype=np.float32)
        for place in range(self._places):
            matrix[:, place : place + width, place] = self._kernel
        self._matrix = matrix.reshape(height * BANDS, -1)

    def answers(self, frames: Array) -> Array:
        """(t, filters), of frames with their neighbours as `_in_time` has them."""
        return self._strongest((frames @ self._matrix).reshape(len(frames), self._places, -1))


class _Temporal(_FilterBank):
    """Filters of many frames and one band; around a patch there is silence."""

    def __init__(self, tensors: Mapping[str, Array], name: str, scale: _Scale) -> None:
        super().__init__(tensors, name, scale)
        height, _, count = self._kernel.shape
        before = (height - 1) // 2
        matrix = np.zeros((PATCH, count, PATCH), dtype=np.float32)
        for at in range(PATCH):
            first, last = max(0, at - before), min(PATCH, at - before + height)
            matrix[at, :, first:last] = self._kernel[first - at + before : last - at + before, 0].T
        self._matrix = matrix.reshape(-1, PATCH)

    def answers(self, frames: Array) -> Array:
        """(t, filters), of frames."""
        return self._strongest((self._matrix @ frames).reshape(PATCH, -1, BANDS).transpose(0, 2, 1))


def _matrix(tensors: Mapping[str, Array], name: str) -> Array:
    kernel = tensors[f"{name}/kernel"]
    return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]))


def _in_time(layer: Array) -> Array:
    """Each frame with the three before and the three behind it, (t, 7 w)."""
    padded = np.pad(layer, ((3, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=0)
    return windows.transpose(0, 2, 1).reshape(len(layer), -1)

"""A recording's vector by musicnn: its penultimate layer, averaged over patches of three seconds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from streams.producers.audio.decoding import UnreadableRecordingError
from streams.producers.audio.mel import FRAME, HOP, RATE, log_mel
from streams.producers.audio.musicnn import PATCH, TENSORS, WIDTH, MusicNetwork
from streams.producers.items import SourceError

# Samples of a patch, and from one patch to the next.
_SPAN: Final = (PATCH - 1) * HOP + FRAME
_STEP: Final = PATCH * HOP
# Both ends are reflected, so that a frame stands around each of its samples.
_MARGIN: Final = FRAME // 2


class Embedder(Protocol):
    """What makes a vector of a recording.

    Attributes:
        model: Names what made the vectors, for whoever compares them.
        rate: Samples a second that it takes.
    """

    model: str
    rate: int

    def embed(self, blocks: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.floating]:
        """Return the vector (d,) of a recording, from its samples, one channel, in blocks of any length.

        Raises:
            UnreadableRecordingError: There are none.
        """


class MusicnnEmbedder:
    """Vectors of 200 components by musicnn.

    What is behind the last whole patch does not count; a recording shorter than a patch is followed by silence.

    Args:
        weights: As `mess models fetch` wrote them.

    Raises:
        SourceError: they are not there, or cannot be read.
    """

    model = "musicnn-msd"
    rate = RATE

    def __init__(self, weights: Path) -> None:
        try:
            with np.load(weights, allow_pickle=False) as tensors:
                self._network = MusicNetwork({name: tensors[name] for name in TENSORS})
        except FileNotFoundError:
            raise SourceError(
                "the network that embeds recordings is not here: run `mess models fetch`"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(
                f"{weights} cannot be read ({error}): remove it, and run `mess models fetch`"
            ) from error

    def embed(self, blocks: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Return the vector of a recording, float32 (WIDTH,)."""
        total, patches = np.zeros(WIDTH, dtype=np.float64), 0
        rest, begun = np.empty(0, dtype=np.float32), False
        for block in blocks:
            rest = np.concatenate([rest, block])
            if not begun and len(rest) > _MARGIN:
                rest, begun = np.concatenate([rest[_MARGIN:0:-1], rest]), True
            # What the end is reflected from is kept.
            while begun and len(rest) > _SPAN + _MARGIN:
                total += self._network.embed(log_mel(rest[:_SPAN]))
                patches += 1
                rest = rest[_STEP:]
        if not len(rest):
            raise UnreadableRecordingError("it holds no sound")
        if not begun:
            rest = np.pad(rest, (0, _MARGIN + 1 - len(rest)))
            rest = np.concatenate([rest[_MARGIN:0:-1], rest])
        rest = np.concatenate([rest, rest[-2 : -_MARGIN - 2 : -1]])
        if not patches and len(rest) < _SPAN:
            rest = np.pad(rest, (0, _SPAN - len(rest)))
        while len(rest) >= _SPAN:
            total += self._network.embed(log_mel(rest[:_SPAN]))
            patches += 1
            rest = rest[_STEP:]
        return (total / patches).astype(np.float32)

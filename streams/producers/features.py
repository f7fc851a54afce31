"""Tracks from a folder of `.npy` features, as a layered audio model leaves them."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from streams.contracts import InvalidEvent, Reason, check_track_id, encode_track
from streams.contracts.cleaning import is_missing
from streams.contracts.tracks import Encoding
from streams.producers import saarland
from streams.producers.items import Position, Record, Refusal, SourceError, TrackItem
from streams.producers.tables import MetadataTable

Layout = Literal["aggregated", "segments", "raw"]
# In the order of preference where a track has several: the least to read.
_LAYOUTS: Final[tuple[Layout, ...]] = ("aggregated", "segments", "raw")
_AXES: Final = {
    2: "aggregated (layers, width)",
    3: "segments (n, layers, width)",
    4: "raw (n, layers, t, width)",
}
UNREADABLE: Final = "unreadable_file"
WRONG_SHAPE: Final = "wrong_shape"
DUPLICATE: Final = "duplicate_track_id"


class Pooling:
    """How an array of features becomes one vector.

    Segments and time are always averaged. Layers then are averaged (`mean`), put one after the other
    (`flatten`), or one of them is taken (`layer N`).

    Args:
        mode: `mean`, `flatten`, or the layer's number from 0.
        layers: how many layers the features have.
        width: the features of one layer.
    """

    def __init__(
        self, mode: Literal["mean", "flatten"] | int = "mean", *, layers: int = 13, width: int = 768
    ) -> None:
        if isinstance(mode, int) and not 0 <= mode < layers:
            raise ValueError(f"layer {mode} is not one of 0 to {layers - 1}")
        self.mode = mode
        self.layers = layers
        self.width = width

    @classmethod
    def parse(cls, text: str, *, layers: int = 13, width: int = 768) -> "Pooling":
        """Return the pooling that `mean`, `flatten`, `layer 7`, `layer:7` or `7` names."""
        word = text.strip().casefold()
        if word in ("mean", "flatten"):
            return cls("mean" if word == "mean" else "flatten", layers=layers, width=width)
        number = word.removeprefix("layer").lstrip(" :=")
        if not number.isdecimal():
            raise ValueError(f"{text!r} is none of mean, flatten, layer N")
        return cls(int(number), layers=layers, width=width)

    def __str__(self) -> str:
        return self.mode if isinstance(self.mode, str) else f"layer {self.mode}"

    def pool(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return one vector, (width,) or for `flatten` (layers * width,), float64.

        Args:
            features: (layers, width), (n, layers, width) or (n, layers, t, width), real.

        Raises:
            ValueError: another shape or type.
        """
        self._check(features)
        with np.errstate(all="ignore"):  # what is not finite stays so, and is refused with its place
            if isinstance(self.mode, int):
                features = np.take(features, [self.mode], axis=-2 if features.ndim < 4 else 1)
            by_layer = features.mean(axis={2: (), 3: (0,), 4: (0, 2)}[features.ndim], dtype=np.float64)
            vector: npt.NDArray[np.float64] = (
                by_layer.ravel() if self.mode == "flatten" else by_layer.mean(axis=0)
            )
        return vector

    def _check(self, features: npt.NDArray[Any]) -> None:
        if features.dtype.kind != "f":
            raise ValueError(f"holds {features.dtype}, not float16, float32 or float64")
        shape = features.shape
        layer_axis = 1 if features.ndim == 4 else features.ndim - 2
        fits = features.ndim in _AXES and shape[layer_axis] == self.layers and shape[-1] == self.width
        if not fits:
            wanted = ", ".join(_AXES.values())
            raise ValueError(
                f"has shape {shape}; wanted with {self.layers} layers of width {self.width}: {wanted}"
            )
        if features.size == 0:
            raise ValueError(f"has shape {shape}: there is nothing in it")


class FeatureFolder:
    """A folder of `.npy` files, one a track, with optional folders for data sets and layouts.

    `DIR/[DATASET/][aggregated|segments|raw/]NAME.npy`. The track id is the metadata row's own, else NAME.
    Facts come from the row; what it lacks is taken from a Saarland file name and from the data set's folder.

    Args:
        folder: the folder.
        table: metadata, if there is any.
        pooling: how features become a vector.
        encoding: how vectors travel.
        layout: read this layout only; None: for each track the one that is least to read.
    """

    def __init__(
        self,
        folder: Path,
        table: MetadataTable | None = None,
        *,
        pooling: Pooling | None = None,
        encoding: Encoding = "float32",
        layout: Layout | None = None,
    ) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder")
        self.name = str(folder)
        self.unit = "files"
        self.without_metadata = 0
        self._folder = folder
        self._table = table
        self._pooling = pooling or Pooling()
        self._encoding = encoding
        self._files = _choose(folder, layout)
        if not self._files:
            raise SourceError(f"{folder} holds no .npy files" + (f" of layout {layout}" if layout else ""))
        self.total: int | None = len(self._files)

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder's name and the pooling; files may come and go between runs."""
        return {"kind": "features", "name": self._folder.resolve().name, "pool": str(self._pooling)}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every file, in the order of their paths, which are the positions."""
        seen: dict[str, str] = {}
        for done, path in enumerate(self._files, start=1):
            position = path.as_posix()
            if isinstance(after, str) and position <= after:
                continue
            yield self._record(path, position, done, seen)

    def _record(
        self, path: PurePosixPath, position: str, done: int, seen: dict[str, str]
    ) -> TrackItem | Refusal:
        stem = path.name.removesuffix(".npy")
        facts = self._facts(path, stem)
        track_id = str(facts.pop("track_id", None) or stem)

        def refuse(reason: str, detail: str) -> Refusal:
            return Refusal(position, reason, detail, track_id, position, done)

        if (other := seen.setdefault(track_id, position)) != position:
            return refuse(DUPLICATE, f"{other} has the same track id")
        try:
            check_track_id(track_id)
            features = np.load(self._folder / path, mmap_mode="r", allow_pickle=False)
        except InvalidEvent as exc:
            return refuse(exc.reason.value, exc.detail)
        except (OSError, ValueError, EOFError) as exc:
            return refuse(UNREADABLE, f"is not a .npy file that can be read: {exc}")
        try:
            vector = self._pooling.pool(features)
        except ValueError as exc:
            return refuse(WRONG_SHAPE, str(exc))
        try:
            return TrackItem(*encode_track(track_id, vector, facts, encoding=self._encoding), position, done)
        except InvalidEvent as exc:
            detail = exc.detail
            if exc.reason is Reason.NOT_FINITE:
                detail = "the features hold NaN or infinity"
            return refuse(exc.reason.value, detail)

    def _facts(self, path: PurePosixPath, stem: str) -> dict[str, Any]:
        row = self._table.find(stem) if self._table is not None else None
        if row is None and self._table is not None:
            self.without_metadata += 1
        facts = saarland.parse_name(stem) or {}
        if dataset := _dataset(path):
            facts.setdefault("dataset_source", dataset)
        facts |= {name: value for name, value in (row or {}).items() if not is_missing(value)}
        facts.setdefault("filename", path.name)
        return facts


def _dataset(path: PurePosixPath) -> str | None:
    """Return the data set's folder: the first one that does not name a layout."""
    return next((part for part in path.parts[:-1] if part not in _LAYOUTS), None)


def _layout(path: PurePosixPath) -> Layout | None:
    return next((name for name in _LAYOUTS if name in path.parts[:-1]), None)


def _choose(folder: Path, layout: Layout | None) -> list[PurePosixPath]:
    """Return the files to read, relative and sorted, one for each track of each data set."""
    chosen: dict[tuple[str, ...], PurePosixPath] = {}
    for found in folder.rglob("*.npy"):
        path = PurePosixPath(found.relative_to(folder).as_posix())
        if any(part.startswith(".") for part in path.parts) or (
            layout and _layout(path) not in (layout, None)
        ):
            continue
        track = tuple(part for part in path.parts if part not in _LAYOUTS)
        if track not in chosen or _rank(path) < _rank(chosen[track]):
            chosen[track] = path
    return sorted(chosen.values(), key=PurePosixPath.as_posix)


def _rank(path: PurePosixPath) -> int:
    layout = _layout(path)
    return _LAYOUTS.index(layout) if layout else -1

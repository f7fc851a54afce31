"""Identifies the axes of an array of features, and pools the array to one vector."""

from collections.abc import Iterable
from itertools import permutations
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Role = Literal["layers", "time", "width"]
Roles = tuple[Role, ...]
_WORDS: Final[dict[str, Role]] = {
    **dict.fromkeys(("layers", "layer", "l"), "layers"),
    **dict.fromkeys(("time", "frames", "patches", "segments", "t", "n", "s"), "time"),
    **dict.fromkeys(("width", "dim", "dimension", "features", "d", "w"), "width"),
}
DEFAULT_LAYERS: Final = 13
DEFAULT_WIDTH: Final = 768


def parse_axes(text: str) -> Roles:
    """Return the roles that `--axes` names, such as `layers,time,width`.

    Raises:
        ValueError: an unknown word, or not exactly one width, or several layers.
    """
    words = [word.strip().casefold() for word in text.replace("x", ",").split(",") if word.strip()]
    if unknown := [word for word in words if word not in _WORDS]:
        raise ValueError(f"--axes: {unknown[0]!r} is none of layers, time, width")
    roles = tuple(_WORDS[word] for word in words)
    if roles.count("width") != 1 or roles.count("layers") > 1:
        raise ValueError(
            "--axes needs width once, layers at most once, and time for every axis to be averaged"
        )
    return roles


class Pooling:
    """How the layers of features become one vector.

    Time is always averaged. Layers then are averaged (`mean`), put one after the other (`flatten`), or one of
    them is taken (`layer N`).

    Args:
        mode: `mean`, `flatten`, or the layer's number from 0.
    """

    def __init__(self, mode: Literal["mean", "flatten"] | int = "mean") -> None:
        if isinstance(mode, int) and mode < 0:
            raise ValueError(f"there is no layer {mode}")
        self.mode = mode

    @classmethod
    def parse(cls, text: str) -> "Pooling":
        """Return the pooling that `mean`, `flatten`, `layer 7`, `layer:7` or `7` names."""
        word = text.strip().casefold()
        if word in ("mean", "flatten"):
            return cls("mean" if word == "mean" else "flatten")
        number = word.removeprefix("layer").lstrip(" :=")
        if not number.isdecimal():
            raise ValueError(f"{text!r} is none of mean, flatten, layer N")
        return cls(int(number))

    def __str__(self) -> str:
        return self.mode if isinstance(self.mode, str) else f"layer {self.mode}"

    def pool(self, features: npt.NDArray[Any], roles: Roles) -> npt.NDArray[np.float64]:
        """Return one vector: (width,), or (layers * width,) for `flatten`, float64.

        Args:
            features: real numbers.
            roles: what each axis is.

        Raises:
            ValueError: there is no such layer.
        """
        if len(roles) == 1 and isinstance(self.mode, str):
            return np.asarray(features, dtype=np.float64)
        layers = roles.index("layers") if "layers" in roles else None
        if isinstance(self.mode, int):
            if layers is None:
                raise ValueError(f"has no layers: there is no {self}")
            if self.mode >= features.shape[layers]:
                raise ValueError(
                    f"has {features.shape[layers]} layers: there is no {self} (they count from 0)"
                )
            features = np.take(features, [self.mode], axis=layers)
        order = [axis for role in ("layers", "width") for axis, each in enumerate(roles) if each == role]
        time = tuple(axis for axis, role in enumerate(roles) if role == "time")
        with np.errstate(all="ignore"):  # what is not finite stays so, and is refused with its place
            kept = features.mean(axis=time, dtype=np.float64, keepdims=True)
            kept = kept.transpose(*order, *time).reshape([features.shape[axis] for axis in order])
            if layers is None:
                vector: npt.NDArray[np.float64] = kept
            else:
                vector = kept.ravel() if self.mode == "flatten" else kept.mean(axis=0)
        return vector


class AxisReader:
    """Identifies the axes of arrays by their lengths, or takes them as given.

    A single axis is the width. Of several, the axes with the lengths of layers and width are identified, and the others are
    time. Failing that, axes whose length differs between arrays are time, if exactly one axis does not differ. Anything else is
    an error that asks for the axes, never a guess.

    Args:
        roles: what the axes are, where that is said.
        layers: how many layers there are; None: 13, as the usual models have.
        width: how wide a layer is; None: 768.
    """

    def __init__(
        self, roles: Roles | None = None, *, layers: int | None = None, width: int | None = None
    ) -> None:
        self._given = roles
        self._layers = layers or DEFAULT_LAYERS
        self._width = width or DEFAULT_WIDTH
        self._width_given = width is not None
        self._told: dict[int, Roles] = {}
        self.used: set[tuple[int, Roles]] = set()

    def learn(self, shapes: Iterable[tuple[int, ...]]) -> None:
        """See which axes differ between arrays of the same number of axes."""
        seen: dict[int, set[tuple[int, ...]]] = {}
        for shape in shapes:
            if self._by_size(shape) is None:
                seen.setdefault(len(shape), set()).add(shape)
        for axes, different in seen.items():
            same = [axis for axis in range(axes) if len({shape[axis] for shape in different}) == 1]
            if len(different) > 1 and len(same) == 1:
                self._told[axes] = tuple("width" if axis == same[0] else "time" for axis in range(axes))

    def roles_of(self, shape: tuple[int, ...]) -> Roles:
        """Return what each axis is.

        Raises:
            ValueError: it cannot be told.
        """
        roles = self._roles(shape)
        self.used.add((len(shape), roles))
        return roles

    def _roles(self, shape: tuple[int, ...]) -> Roles:
        if not shape or 0 in shape:
            raise ValueError(f"has shape {shape}: there is nothing in it")
        if len(shape) == 1:
            return ("width",)
        if self._given is not None:
            if len(self._given) != len(shape):
                raise ValueError(f"has shape {shape}, but --axes names {len(self._given)}")
            return self._given
        roles = self._by_size(shape) or self._told.get(len(shape)) or self._by_width(shape)
        if roles is None:
            example = ",".join(("layers", "time", "width")[-len(shape) :] if len(shape) < 4 else ["..."])
            raise ValueError(
                f"has shape {shape}, which can be read in several ways: say what the axes are, "
                f"for example --axes {example}"
            )
        return roles

    def _by_size(self, shape: tuple[int, ...]) -> Roles | None:
        """Tell layers and width by their lengths, where exactly one axis has each."""
        fits = self._fits(shape)
        if len(fits) != 1:
            return None
        names: dict[int, Role] = {fits[0][0]: "layers", fits[0][1]: "width"}
        return tuple(names.get(axis, "time") for axis in range(len(shape)))

    def _fits(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the axes that may be layers and width."""
        return [
            (layers, width)
            for layers, width in permutations(range(len(shape)), 2)
            if (shape[layers], shape[width]) == (self._layers, self._width)
        ]

    def _by_width(self, shape: tuple[int, ...]) -> Roles | None:
        """Tell the width where only one axis is longer than 1, or as long as it was said to be."""
        long = [axis for axis, size in enumerate(shape) if size > 1]
        if self._width_given and not self._fits(shape):
            long = [axis for axis, size in enumerate(shape) if size == self._width]
        if len(long) != 1:
            return None
        return tuple("width" if axis == long[0] else "time" for axis in range(len(shape)))

    def notes(self) -> list[str]:
        """Return how arrays of several axes were read."""
        return [
            f"arrays of {axes} axes were read as ({', '.join(roles)})"
            for axes, roles in sorted(self.used)
            if axes > 1
        ]

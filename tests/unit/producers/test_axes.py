"""Which axis is which: told apart, taken as given, or asked for."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.producers.axes import AxisReader, Pooling, Roles, parse_axes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("time,width", ("time", "width")),
        ("layers, time, width", ("layers", "time", "width")),
        ("l,t,d", ("layers", "time", "width")),
        ("segments,layers,frames,dim", ("time", "layers", "time", "width")),
    ],
)
def test_axes_are_named_in_words_or_letters(text: str, roles: Roles) -> None:
    """Every axis that is averaged is time, whatever it is called."""
    assert parse_axes(text) == roles


@pytest.mark.parametrize(
    ("text", "said"),
    [("time", "width once"), ("layers,layers,width", "layers at most once"), ("a,width", "'a' is none of")],
)
def test_axes_that_make_no_vector_are_refused(text: str, said: str) -> None:
    """One width and at most one axis of layers."""
    with pytest.raises(ValueError, match=said):
        parse_axes(text)


sizes = st.permutations([13, 768, 5, 4])


@given(sizes)
def test_any_order_of_axes_gives_the_same_vector(order: list[int]) -> None:
    """Layers and width are told by their lengths, wherever they stand."""
    array = np.random.default_rng(3).standard_normal((13, 768, 5, 4))
    turned = array.transpose([[13, 768, 5, 4].index(size) for size in order])
    pooled = Pooling("flatten").pool(turned, AxisReader().roles_of(turned.shape))
    np.testing.assert_allclose(pooled, array.mean(axis=(2, 3)).ravel(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 8), (13, 13, 768), (768, 768), (2, 3, 4)])
def test_what_can_be_read_in_several_ways_is_asked_for(shape: tuple[int, ...]) -> None:
    """Never guessed: the error says how to tell."""
    with pytest.raises(ValueError, match="several ways: say what the axes are, for example --axes"):
        AxisReader().roles_of(shape)


def test_the_axis_that_differs_between_files_is_time() -> None:
    """If exactly one axis does not differ it is the width; if none or several do not, it is asked for."""
    reader = AxisReader()
    reader.learn([(5, 8), (9, 8)])
    assert reader.roles_of((7, 8)) == ("time", "width")
    assert reader.notes() == ["arrays of 2 axes were read as (time, width)"]
    for shapes in ([(5, 8), (5, 8)], [(5, 8), (6, 9)]):
        reader = AxisReader()
        reader.learn(shapes)
        with pytest.raises(ValueError, match="several ways"):
            reader.roles_of(shapes[0])


def test_axes_of_length_one_need_no_telling() -> None:
    """Whatever they are, they change nothing."""
    for shape in permutations((1, 512, 1)):
        assert AxisReader().roles_of(shape)[shape.index(512)] == "width"


def test_a_layer_that_is_not_there_is_an_error() -> None:
    """Also where there are no layers at all."""
    with pytest.raises(ValueError, match="has 13 layers: there is no layer 13"):
        Pooling(13).pool(np.zeros((13, 768)), ("layers", "width"))
    with pytest.raises(ValueError, match="has no layers"):
        Pooling(0).pool(np.zeros((5, 8)), ("time", "width"))

"""The strategies by name, and their settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.strategies import InvalidQuery, registry

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        ("similar", None, ("similarity", None)),
        ("balanced", None, ("hybrid", None)),
        ("diverse", None, ("diverse", "mmr")),
        ("complementary", None, ("diverse", "cluster")),
        ("exploration", None, ("random", None)),
        ("diverse", "contrast", ("diverse", "contrast")),
        ("popular", None, ("popular", None)),
        ("auto", None, ("auto", None)),
    ],
)
def test_names_and_aliases(name: str, mode: str | None, found: tuple[str, str | None]) -> None:
    """The old names lead to the strategies that stand for them."""
    resolved = registry.resolve_strategy(name, mode)
    assert (resolved.strategy.name, resolved.mode.name) == found


@pytest.mark.parametrize(
    ("name", "mode", "given", "said"),
    [
        ("best", None, {}, "strategy: is none of similarity, diverse"),
        ("diverse", "loud", {}, "mode: is not a mode of diverse: its modes are mmr, cluster"),
        ("similarity", "mmr", {}, "mode: is not a mode of similarity: it has none"),
        ("diverse", None, {"lambda": 1.5}, "lambda: must be between 0 and 1"),
        ("random", None, {"seed": 2**31}, "seed: must be between 0 and 2147483647"),
        ("random", None, {"temperature": 0}, "temperature: must be between 0.01 and 100"),
        ("diverse", None, {"lambda": "x"}, "lambda: must be a number"),
        ("diverse", None, {"lambda": True}, "lambda: must be a number"),
        ("diverse", None, {"lambda": float("nan")}, "lambda: must be a number"),
        ("diverse", "cluster", {"clusters": 2.5}, "clusters: must be a whole number"),
        ("diverse", "cluster", {"one_per_cluster": "perhaps"}, "must be true or false"),
        (
            "complementary",
            None,
            {"lambda": 0.5},
            "lambda: is not a parameter of diverse/cluster: its parameters are clusters, one_per_cluster, pool",
        ),
        (
            "complementary",
            "mmr",
            {},
            "mode: contradicts complementary, which is diverse in mode cluster",
        ),
        ("auto", None, {"lambda": 0.5}, "lambda: is not a parameter of auto: it has none"),
        (
            "popular",
            None,
            {"lambda": 0.5},
            "lambda: is not a parameter of popular: its parameters are pool, weight",
        ),
        ("similarity", None, {"x": 1}, "x: is not a parameter of similarity: it has none"),
    ],
)
def test_what_does_not_exist_or_fit(name: str, mode: str | None, given: dict[str, Any], said: str) -> None:
    """One line that names what is wrong and what there is."""
    with pytest.raises(InvalidQuery, match=said):
        registry.resolve_strategy(name, mode, given)


def test_settings_are_typed_and_complete() -> None:
    """Text from an address is read; what is not given has its default."""
    assert registry.resolve_strategy("diverse", None, {"lambda": "0.25"}).settings == {
        "lambda": 0.25,
        "pool": 0,
    }
    found = registry.resolve_strategy(
        "complementary", "cluster", {"clusters": "7", "one_per_cluster": "true"}
    ).settings
    assert found == {"clusters": 7, "one_per_cluster": True, "pool": 0}
    assert isinstance(found["clusters"], int)


def test_the_description_is_json_and_every_default_is_in_bounds() -> None:
    """What `GET /strategies` will show holds for itself."""
    described = json.loads(json.dumps(registry.describe_strategies()))
    assert [s["name"] for s in described] == ["similarity", "diverse", "popular", "hybrid", "random", "auto"]
    for shown, strategy in zip(described, registry.STRATEGIES, strict=True):
        modes = {mode.name for mode in strategy.modes}
        for mode in modes:
            defaults = {p["name"]: p["default"] for p in shown["parameters"] if mode in p.get("modes", modes)}
            assert registry.resolve_strategy(strategy.name, mode, defaults).settings == defaults
        assert all(set(p.get("modes", [])) <= modes for p in shown["parameters"])
        assert all(
            p["minimum"] <= p["default"] <= p["maximum"]
            for p in shown["parameters"]
            if p["type"] != "boolean"
        )


def test_the_guide_names_everything_that_can_be_asked_for() -> None:
    """Every strategy, alias, mode and setting stands in docs/strategies.md."""
    guide = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text()
    for strategy in registry.STRATEGIES:
        names = [
            strategy.name,
            *(strategy.aliases or {}),
            *(parameter.name for parameter in strategy.parameters),
        ]
        names += [f"{strategy.name}/{mode.name}" for mode in strategy.modes if mode.name]
        assert [name for name in names if f"`{name}`" not in guide] == []

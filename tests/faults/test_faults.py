"""Whatever goes wrong meanwhile, the store and the topics end as the log says. See docs/faults.md."""

import os
from pathlib import Path

import pytest

from mess.stack.java import KafkaUnavailableError, find_java
from tests.faults.runner import Runner
from tests.faults.scenario import draw
from tests.faults.servers import Servers, guarded

pytestmark = pytest.mark.faults

# Part of every test run. Chosen for what they inject: kills at points and servers that die.
SHORT_SEEDS = (1,)


def seeds_of(text: str) -> list[int]:
    """Seeds as they are written in FAULT_SEEDS: `3`, `1-20`, `1-5,17`."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Short scenarios, or the long ones of the seeds asked for."""
    wanted = os.environ.get("FAULT_SEEDS")
    cases = [(seed, True) for seed in seeds_of(wanted)] if wanted else [(s, False) for s in SHORT_SEEDS]
    ids = [f"{'long' if long else 'short'}-{seed}" for seed, long in cases]
    metafunc.parametrize(("seed", "long"), cases, ids=ids)


def broker_survives() -> bool:
    """Whether the broker here keeps its log: Apache Kafka does."""
    if os.environ.get("MESS_TEST_BROKER") == "tansu":
        return False
    try:
        find_java()
    except KafkaUnavailableError:
        return False
    return True


def say(text: str) -> None:
    """Print for a failing run: pytest shows it then."""
    print(text)  # noqa: T201


@pytest.mark.timeout(1200)
async def test_a_scenario_ends_as_the_log_says(seed: int, long: bool, tmp_path: Path) -> None:
    """After kills, outages, zombies and replays the catalogue, lists, dead letters and feed are those of the log."""
    scenario = draw(seed, long=long, broker_survives=broker_survives())
    say(str(scenario))
    with guarded() as guardian:
        # Every other seed, some of a track's events lie in other partitions than the rest.
        misplaced = 0.3 if seed % 2 else 0.0
        runner = Runner(tmp_path, Servers(tmp_path, guardian), guardian, misplaced)
        faults = ["it did not come to its end"]
        try:
            faults = await runner.play(scenario)
        finally:
            await runner.close()
            if faults:
                say("\n".join(["what is wrong:", *faults]))
                say(runner.report())
                say(f"to play it again: FAULT_SEED={seed} make faults")
    assert not faults, f"{len(faults)} faults, the first: {faults[0]}"
    say(runner.summary())

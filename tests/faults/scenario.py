"""Scenarios: what is published and what goes wrong meanwhile, all drawn from one seed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from streams.faults import FaultPoint
from tests.faults.history import History, Message


class FaultKind(StrEnum):
    """What can go wrong."""

    KILL_AT_POINT = "kill-at-point"
    KILL_WORKER = "kill-worker"
    KILL_ENGINE = "kill-engine"
    KILL_BROKER = "kill-broker"
    KILL_POSTGRES = "kill-postgres"
    STOP_POSTGRES = "stop-postgres"
    KILL_SEARCH = "kill-search"
    FREEZE = "freeze-worker"
    SCALE = "scale-1-3-1"
    MOVE_OFFSETS = "move-offsets"
    REPLAY = "replay"


# Of each kind, how often it is drawn: the cheap ones, which depend on the moment, more often.
WEIGHTS = {
    FaultKind.KILL_AT_POINT: 6,
    FaultKind.KILL_WORKER: 3,
    FaultKind.KILL_ENGINE: 2,
    FaultKind.KILL_BROKER: 3,
    FaultKind.KILL_POSTGRES: 3,
    FaultKind.STOP_POSTGRES: 1,
    FaultKind.KILL_SEARCH: 1,
    FaultKind.FREEZE: 2,
    FaultKind.SCALE: 3,
    FaultKind.MOVE_OFFSETS: 2,
    FaultKind.REPLAY: 1,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: What.
        after: Seconds after the part began, or after the fault before it.
        point: For KILL_AT_POINT: the point and which time it is reached.
        away: For servers: seconds until it is started again.
        number: A number from the seed for whatever else is to be drawn.
    """

    kind: FaultKind
    after: float
    point: str = ""
    away: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        details = [f"after {self.after:.2f} s", self.point, f"away {self.away:.1f} s" if self.away else ""]
        return f"{self.kind} ({', '.join(d for d in details if d)})"


@dataclass(frozen=True, slots=True)
class ScenarioPart:
    """Messages published in a row, and what goes wrong meanwhile.

    Attributes:
        chunks: Messages, with a short pause after each chunk.
        pause: Seconds of that pause.
        faults: In order.
        settle: Whether everything is waited for before the next part.
    """

    chunks: list[list[Message]]
    pause: float
    faults: list[Fault]
    settle: bool

    def __str__(self) -> str:
        count = sum(map(len, self.chunks))
        after = ", then settle" if self.settle else ""
        return f"{count} messages, pauses {self.pause:.2f} s: {'; '.join(map(str, self.faults))}{after}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole run.

    Attributes:
        seed: What it was drawn from.
        long: Whether it is of the long variety.
        history: Made the messages, and knows their meaning.
        parts: In order.
    """

    seed: int
    long: bool
    history: History
    parts: list[ScenarioPart]

    def __str__(self) -> str:
        lines = [f"scenario of seed {self.seed} ({'long' if self.long else 'short'}):"]
        return "\n".join([*lines, *(f"  {i + 1}. {part}" for i, part in enumerate(self.parts))])


def draw(seed: int, *, long: bool, broker_survives: bool) -> Scenario:
    """The scenario of a seed.

    Args:
        seed: Any number.
        long: More and larger parts, longer outages, and all kinds of faults.
        broker_survives: Whether the broker keeps its log when it is killed.
    """
    rng = np.random.default_rng([seed, long])
    history = History(rng)
    kinds = [k for k in WEIGHTS if broker_survives or k is not FaultKind.KILL_BROKER]
    if not long:
        kinds = [
            k
            for k in kinds
            if k not in (FaultKind.FREEZE, FaultKind.SCALE, FaultKind.STOP_POSTGRES, FaultKind.MOVE_OFFSETS)
        ]
    weights = np.array([WEIGHTS[k] for k in kinds], dtype=float)
    parts = []
    for _ in range(7 if long else 4):
        count = 1 + int(long and rng.random() < 0.35)
        drawn = rng.choice(len(kinds), size=count, replace=False, p=weights / weights.sum())
        faults = [_fault(rng, kinds[i], long=long) for i in drawn]
        parts.append(_part(rng, history, faults, long=long))
    return Scenario(seed, long, history, parts)


def _part(rng: np.random.Generator, history: History, faults: list[Fault], *, long: bool) -> ScenarioPart:
    size = int(rng.integers(100, 400 if long else 250))
    burst = rng.random() < 0.25
    if burst:
        size *= 4
    messages = history.events(size)
    if rng.random() < 0.3:
        messages += history.again(int(rng.integers(20, 120)))
    chunk = len(messages) if burst else int(rng.integers(5, 60))
    chunks = [messages[i : i + chunk] for i in range(0, len(messages), chunk)]
    # Spread over some seconds, so that faults fall among them.
    seconds = float(rng.uniform(0.5, 3))
    if any(fault.kind is FaultKind.SCALE for fault in faults):
        # Workers join and leave in the middle of it: that takes its time.
        chunks = [messages[i : i + 10] for i in range(0, len(messages), 10)]
        seconds *= 12
    return ScenarioPart(chunks, seconds / len(chunks), faults, settle=bool(rng.random() < 0.4))


def _fault(rng: np.random.Generator, kind: FaultKind, *, long: bool) -> Fault:
    points = list(FaultPoint)
    away = 0.0
    if kind in (FaultKind.KILL_BROKER, FaultKind.KILL_POSTGRES):
        away = float(rng.uniform(0, 6 if long else 2))
    if kind is FaultKind.STOP_POSTGRES:
        away = float(os.environ.get("FAULT_AWAY_SECONDS", "60"))
    point = f"{points[int(rng.integers(len(points)))]}:{int(rng.geometric(0.5))}"
    return Fault(
        kind,
        after=float(rng.uniform(0.1, 2.0)),
        point=point if kind is FaultKind.KILL_AT_POINT else "",
        away=away,
        number=int(rng.integers(1 << 30)),
    )

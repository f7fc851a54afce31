"""The checks behind the health paths."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import asyncpg

from serving.kafka.broker import BrokerUnavailableError, IngestLogEnds
from serving.settings import ServingSettings
from store.columns import REVISION
from store.errors import SchemaMismatchError, StoreError, StoreUnavailableError
from store.lives import RECENT_SECONDS, WorkersState, fetch_workers
from store.pool import require_schema
from store.status import StoreCounts, fetch_counts
from streams.generations import GenerationName

# A worker says every five seconds that it owns partitions; a restart takes less than this.
_UNOWNED_SECONDS = 15.0
_STALLED_SECONDS = 30.0

Status = Literal["ok", "degraded", "down", "unknown"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """The result of one check: its state, a sentence about it, and its figures."""

    status: Status
    detail: str
    figures: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"status": self.status, "detail": self.detail, **(self.figures or {})}


class SpacesState(Protocol):
    """Which spaces serve, and what keeps one from being served as it should."""

    @property
    def serving(self) -> Mapping[str, GenerationName]:
        """The generation that serves each space."""

    @property
    def open(self) -> list[str]:
        """The spaces that this process reads."""

    @property
    def troubles(self) -> list[str]:
        """What is wrong with spaces other than `default`."""


class _Kept(Generic[Value]):
    """The latest result or expected error of `ask`, cached for `ttl` seconds; concurrent callers share a call."""

    def __init__(self, ask: Callable[[], Awaitable[Value]], ttl: float, *errors: type[Exception]) -> None:
        self._ask = ask
        self._ttl = ttl
        self._errors = errors
        self._asked_at = float("-inf")
        self._value: Value | None = None
        self._error: Exception | None = None
        self._one_at_a_time = asyncio.Lock()

    async def get(self) -> Value:
        async with self._one_at_a_time:
            if time.monotonic() - self._asked_at > self._ttl:
                self._value, self._error = None, None
                try:
                    self._value = await self._ask()
                except self._errors as error:
                    self._error = error
                self._asked_at = time.monotonic()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set, or there is an error


class HealthChecks:
    """Checks store and broker. Counts and lag are cached for a second, so that probes stay cheap.

    Args:
        settings: How the process serves.
        generation: What is served.
        pool: The store.
        log_ends: Reads the ends of the generation's topic; None without a broker.
        trouble: Says why another generation serves than should; None if that is not so.
        spaces: The check of further spaces.
    """

    def __init__(
        self,
        settings: ServingSettings,
        generation: GenerationName,
        pool: asyncpg.Pool,
        log_ends: IngestLogEnds | None,
        trouble: Callable[[], str | None],
        spaces: Callable[[], HealthCheckResult],
    ) -> None:
        self._settings = settings
        self._generation = generation
        self._topic = settings.topic_of(generation)
        self._trouble = trouble
        self._spaces = spaces
        self._pool = pool
        self._counts = _Kept(lambda: self._in_time(fetch_counts(pool)), settings.health_ttl, StoreError)
        self._workers = _Kept(lambda: self._in_time(fetch_workers(pool)), settings.health_ttl, StoreError)
        self._ends = (
            None
            if log_ends is None
            else _Kept(lambda: log_ends.end_offsets(self._topic), settings.health_ttl, BrokerUnavailableError)
        )

    async def ready(self) -> tuple[Status, dict[str, dict[str, Any]]]:
        """Whether reads can be answered: the database answers and has this version's schema."""
        checks = await self._store_checks()
        return _overall(checks), {name: check.as_dict() for name, check in checks.items()}

    async def detailed(self) -> tuple[Status, dict[str, dict[str, Any]]]:
        """All checks; `down` only if reads cannot be answered."""
        checks = await self._store_checks()
        checks["generation"] = self._generation_check()
        checks["spaces"] = self._spaces()
        counts: StoreCounts | None = None
        if _overall(checks) != "down":
            try:
                counts = await self._counts.get()
            except StoreError as error:
                checks["database"] = HealthCheckResult("down", str(error))
        checks["workers"] = await self._workers_check(reachable=counts is not None)
        checks.update(await self._broker_checks(counts))
        checks.update(_catalogue_checks(counts))
        return _overall(checks), {name: check.as_dict() for name, check in checks.items()}

    async def _in_time(self, looking: Awaitable[Value]) -> Value:
        """The result of a check of the store, within the timeout that also bounds the wait for a connection."""
        try:
            async with asyncio.timeout(self._settings.store_timeout):
                return await looking
        except TimeoutError as error:
            waited = f"{self._settings.store_timeout:g} s"
            raise StoreUnavailableError(f"Postgres has not answered within {waited}") from error

    async def _store_checks(self) -> dict[str, HealthCheckResult]:
        began = time.perf_counter()
        revisions = {"expected": REVISION}
        try:
            await self._in_time(require_schema(self._pool))
        except SchemaMismatchError as error:
            migrations = HealthCheckResult("down", str(error), {"revision": error.found, **revisions})
        except StoreError as error:
            return {
                "database": HealthCheckResult("down", str(error)),
                "migrations": HealthCheckResult("unknown", "the database does not answer", revisions),
            }
        else:
            migrations = HealthCheckResult(
                "ok", f"at revision {REVISION}", {"revision": REVISION, **revisions}
            )
        milliseconds = round((time.perf_counter() - began) * 1000, 2)
        database = HealthCheckResult("ok", f"answered in {milliseconds} ms", {"latency_ms": milliseconds})
        return {"database": database, "migrations": migrations}

    def _generation_check(self) -> HealthCheckResult:
        name, trouble = self._generation, self._trouble()
        return HealthCheckResult(
            "ok" if trouble is None else "degraded",
            trouble or f"{name} serves",
            {"space": name.space, "generation": name.number},
        )

    async def _workers_check(self, *, reachable: bool) -> HealthCheckResult:
        if not reachable:
            return HealthCheckResult("unknown", "the database does not answer")
        try:
            return workers_check(await self._workers.get())
        except StoreError as error:
            return HealthCheckResult("unknown", str(error))

    async def _broker_checks(self, counts: StoreCounts | None) -> dict[str, HealthCheckResult]:
        if self._ends is None:
            nothing = HealthCheckResult("unknown", "no broker is configured")
            return {"broker": nothing, "consumer_lag": nothing}
        try:
            ends = await self._ends.get()
        except BrokerUnavailableError as error:
            return {
                "broker": HealthCheckResult("degraded", f"reads go on, but nothing new arrives: {error}"),
                "consumer_lag": HealthCheckResult("unknown", "the broker does not answer"),
            }
        topic = self._topic
        if not ends:
            broker = HealthCheckResult("degraded", f"the broker has no topic {topic}", {"partitions": 0})
        else:
            broker = HealthCheckResult("ok", f"{topic} has {len(ends)} partitions", {"partitions": len(ends)})
        if counts is None:
            return {
                "broker": broker,
                "consumer_lag": HealthCheckResult("unknown", "the database does not answer"),
            }
        return {"broker": broker, "consumer_lag": self._lag(ends, counts.consumed_offsets)}

    def _lag(self, ends: dict[int, int], consumed: dict[int, int]) -> HealthCheckResult:
        behind = {partition: max(0, end - consumed.get(partition, 0)) for partition, end in ends.items()}
        total = sum(behind.values())
        status: Status = "degraded" if total > self._settings.lag_degraded else "ok"
        figures = {
            "lag": total,
            "consumed": sum(consumed.values()),
            "partitions": {str(key): value for key, value in behind.items()},
        }
        return HealthCheckResult(status, f"{total:,} events behind", figures)


def workers_check(state: WorkersState) -> HealthCheckResult:
    """Whether workers stay alive, own partitions and make progress."""
    figures = {
        "alive": len(state.workers),
        "deaths": state.deaths,
        "last_error": state.last_error,
        "owned_seconds_ago": None if state.owned_ago is None else round(state.owned_ago, 1),
        "stalled_seconds": round(state.stalled, 1),
        "workers": [
            {
                "name": worker.name,
                "running_seconds": round(worker.seconds),
                "partitions": worker.partitions,
                **worker.figures,
            }
            for worker in state.workers
        ],
    }
    wrong = []
    if state.deaths > 1:
        wrong.append(
            f"workers have died {state.deaths} times in {RECENT_SECONDS // 60} minutes; {state.last_error}"
        )
    if state.owned_ago is not None and state.owned_ago > _UNOWNED_SECONDS:
        wrong.append(f"no worker has owned a partition for {state.owned_ago:.0f} s")
    if state.stalled > _STALLED_SECONDS:
        wrong.append(f"events have waited for {state.stalled:.0f} s and none is consumed")
    if wrong:
        return HealthCheckResult("degraded", "; ".join(wrong), figures)
    if state.owned_ago is None:
        return HealthCheckResult("unknown", "no worker has owned a partition yet", figures)
    return HealthCheckResult("ok", f"{len(state.workers)} alive", figures)


def spaces_check(spaces: SpacesState) -> HealthCheckResult:
    """Whether every space that serves is served as it should."""
    serving, troubles = [str(name) for _, name in sorted(spaces.serving.items())], spaces.troubles
    figures = {"serving": serving, "open": spaces.open}
    if troubles:
        return HealthCheckResult("degraded", "; ".join(troubles), figures)
    if not serving:
        return HealthCheckResult("unknown", "the store has not said which spaces serve", figures)
    return HealthCheckResult("ok", f"{', '.join(serving)} serve{'s' if len(serving) == 1 else ''}", figures)


def _catalogue_checks(counts: StoreCounts | None) -> dict[str, HealthCheckResult]:
    if counts is None:
        unknown = HealthCheckResult("unknown", "the database does not answer")
        return {"catalogue": unknown, "lists": unknown}
    catalogue = HealthCheckResult(
        "ok", f"{counts.tracks:,} tracks", {"tracks": counts.tracks, "dimension": counts.dimension}
    )
    lists = HealthCheckResult(
        "ok" if counts.complete else "degraded",
        f"{counts.full_lists:,} of {counts.tracks:,} lists are full",
        {"lists": counts.lists, "full_lists": counts.full_lists},
    )
    return {"catalogue": catalogue, "lists": lists}


def _overall(checks: dict[str, HealthCheckResult]) -> Status:
    statuses = {check.status for check in checks.values()}
    return "down" if "down" in statuses else "degraded" if "degraded" in statuses else "ok"

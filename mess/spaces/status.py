"""How far a generation is: vectors, lists, lag, workers."""

from dataclasses import dataclass

import asyncpg

from store import generations, lives
from store.generations import GenerationCounts, StoredGeneration
from store.pool import open_pool
from store.settings import StoreSettings
from store.status import LIST_LENGTH
from streams.generations import GenerationName
from streams.kafka.clients import group_less_consumer
from streams.kafka.end_offsets import count_lag, read_end_offsets
from streams.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """How far a generation is.

    Attributes:
        generation: The generation.
        counts: What it has, beside the catalogue.
        lag: Events of its topic that it has not consumed.
        recall: Mean recall of the lists that its workers' samplers computed afresh within the last minute; None where none
            did.
    """

    generation: StoredGeneration
    counts: GenerationCounts
    lag: int
    recall: float | None

    @property
    def complete(self) -> bool:
        """Whether every track has a vector, every vector a full list, and no event waits."""
        counts = self.counts
        return not (counts.missing or counts.vectors - counts.full_lists or self.lag)

    def lines(self) -> list[str]:
        """What a person wants to know, a line each."""
        counts, name = self.counts, self.generation.name
        model = counts.model or self.generation.model
        shape = "no vector yet" if counts.dimension is None else f"{counts.dimension} dimensions"
        lines = [
            f"{name}: {self.generation.state}, {shape}, {'no named model' if model is None else f'model {model}'}",
            f"tracks: {counts.tracks:,}, with a vector {counts.vectors:,}, without {counts.missing:,}"
            + (f": {', '.join(counts.first_missing)}" if counts.missing else ""),
            f"lists: {counts.lists:,}, full {counts.full_lists:,}",
            f"lag: {self.lag:,} events of {name.topic}",
            f"workers: {counts.workers}, of which {counts.answering} can answer questions",
        ]
        if self.recall is not None:
            lines.append(f"recall@{LIST_LENGTH} of the lists sampled in the last minute: {self.recall:.4f}")
        return lines


async def generation_status(
    kafka: KafkaSettings, store: StoreSettings, pool: asyncpg.Pool, name: GenerationName
) -> GenerationStatus:
    """How far a generation is.

    Args:
        kafka: How to reach the brokers.
        store: How to reach the catalogue's store.
        pool: Of it.
        name: The generation.

    Raises:
        GenerationError: It is not there.
        StoreError, StreamsError: Postgres or the broker cannot be reached.
    """
    found = await generations.find_generation(pool, name)
    counts = await generations.count_generation(pool, name, length=LIST_LENGTH)
    async with await open_pool(
        store.of_schema(name.schema).model_copy(update={"pool_min_size": 0, "pool_max_size": 1}),
        application_name="mess-spaces",
        read_only=True,
    ) as own:
        workers = (await lives.fetch_workers(own)).workers
    measured = [mean for w in workers if (mean := (w.figures.get("recall") or {}).get("mean")) is not None]
    recall = sum(measured) / len(measured) if measured else None
    return GenerationStatus(found, counts, await _lag(kafka, name.topic, counts.consumed), recall)


async def _lag(kafka: KafkaSettings, topic: str, consumed: dict[int, int]) -> int:
    async with group_less_consumer(kafka) as consumer:
        return count_lag(await read_end_offsets(consumer, topic), consumed)

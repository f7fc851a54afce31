"""Encodes changed lists as messages of the change feed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import structlog

from store.told import ToldList
from streams.contracts import encode_list_change, encode_scores, times
from streams.generations import GenerationName
from streams.kafka.feed_log import Message
from streams.kafka.poison import refusal_of
from streams.maintenance.names import TrackNames
from streams.maintenance.pending_changes import ChangedBlock
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedChanges:
    """Encoded messages for some lists.

    Attributes:
        messages: Keys and values.
        lists: The list of each message, not delivered yet: key, version, ids.
        unnamed: Rows of lists that name a withdrawn track: these are about to be written again.
    """

    messages: list[Message] = field(default_factory=list)
    lists: list[tuple[int, int, Sequence[str]]] = field(default_factory=list)
    unnamed: list[int] = field(default_factory=list)


class ChangeEncoder:
    """Encodes the changes of one generation. Takes CPU time: not for the event loop.

    Args:
        names: Track ids by key.
        metrics: Counts lists that cannot be encoded.
        generation: Whose lists they are.
    """

    def __init__(self, names: TrackNames, metrics: WorkerMetrics, generation: GenerationName) -> None:
        self._names = names
        self._metrics = metrics
        self._generation = generation

    def encode(
        self, block: ChangedBlock, before: Mapping[int, ToldList], promoted: Collection[int]
    ) -> EncodedChanges:
        """The messages of the lists that have not been published already.

        Args:
            block: m lists.
            before: By key, the list published last.
            promoted: Keys of those that are told because the generation has come to serve.
        """
        # Whole columns at a time: a hundred numbers a list are turned into Python's own.
        rows = zip(
            block.keys.tolist(),
            block.neighbours.tolist(),
            block.lengths.tolist(),
            encode_scores(block.scores),
            block.partitions.tolist(),
            block.offsets.tolist(),
            block.versions.tolist(),
            block.generated_at.tolist(),
            strict=True,
        )
        encoded = EncodedChanges()
        for at, (key, neighbours, length, scores, partition, offset, version, made) in enumerate(rows):
            names = self._names.of_all(neighbours[:length])
            track_id = self._names.of(key)
            if track_id is None:  # withdrawn since: its tombstone says so
                continue
            listed = [name for name in names if name is not None]
            if len(listed) < len(names):
                encoded.unnamed.append(at)
                continue
            told = before.get(key)
            if is_told(told, version, listed):
                continue
            source = self._generation.topic, partition, offset
            try:
                message = self._message(
                    track_id, version, listed, told, scores[:length], source, made, key in promoted
                )
            except Exception as error:
                refusal_of(error)  # raises what is not the list's own
                log.exception("a list cannot be told of", key=key, partition=partition, offset=offset)
                self._metrics.changes_published.labels("left_out").inc()
                continue
            encoded.messages.append(message)
            encoded.lists.append((key, version, listed))
        return encoded

    def _message(
        self,
        track_id: str,
        version: int,
        names: list[str],
        told: ToldList | None,
        scores: list[bytes],
        source: tuple[str, int, int],
        at: int,
        promoted: bool,
    ) -> Message:
        before = [] if told is None or told.neighbours is None else told.neighbours
        now, then = set(names), set(before)
        return encode_list_change(
            track_id,
            version=version,
            neighbours=names,
            scores=scores,
            added=[name for name in names if name not in then],
            removed=[name for name in before if name not in now],
            source=source,
            generated_at=times.moment_of(at),
            generation=self._generation,
            promoted=promoted,
        )

    def outdated(
        self, block: ChangedBlock, before: Mapping[int, ToldList], floor: Callable[[int], int]
    ) -> npt.NDArray[np.bool_]:
        """Rows of the lists, bool (m,), whose version does not follow that of their track's messages.

        Args:
            block: m lists.
            before: By key, the list published last.
            floor: By owner, a version that a list must have at least if no list is known to have been published.
        """
        found = np.zeros(len(block), dtype=np.bool_)
        rows = zip(block.keys.tolist(), block.owners.tolist(), block.versions.tolist(), strict=True)
        for at, (key, owner, version) in enumerate(rows):
            told = before.get(key)
            if version > told.version if told is not None else version >= floor(owner):
                continue
            names = self._names.of_all(block.neighbours[at, : block.lengths[at]].tolist())
            found[at] = None not in names and not is_told(told, version, names)
        return found


def is_told(told: ToldList | None, version: int, names: Sequence[str | None]) -> bool:
    """Whether this very list has been published last."""
    return told is not None and told.version == version and list(told.neighbours or ()) == names

"""What must be true of the change feed, message by message."""

from collections.abc import Iterable

import orjson
from aiokafka import ConsumerRecord


def feed_faults(records: Iterable[ConsumerRecord]) -> list[str]:
    """What is wrong with the change feed's messages, those of a track in order, in words.

    `added` and `removed` are the difference to the track's message before, a version names one list and grows; after a
    tombstone there is no message before.
    """
    faults: list[str] = []
    before: dict[bytes, list[str]] = {}
    named: dict[bytes, tuple[int, object]] = {}
    for record in records:
        at = f"{record.key!r} at {record.partition}/{record.offset}"
        if record.value is None:
            before.pop(record.key, None)
            continue
        change = orjson.loads(record.value)
        names = [item["track_id"] for item in change["recommendations"]]
        told = before.get(record.key, [])
        added, removed = [n for n in names if n not in told], [n for n in told if n not in names]
        if (change["added"], change["removed"]) != (added, removed):
            faults.append(
                f"{at}, version {change['version']}: added {change['added']} and removed {change['removed']}, "
                f"where the difference is {added} and {removed}"
            )
        version, content = named.get(record.key, (0, None))
        if change["version"] < version:
            faults.append(f"{at}: version {change['version']} after {version}")
        if change["version"] == version and change["recommendations"] != content:
            faults.append(f"{at}: version {version} names two lists")
        before[record.key], named[record.key] = names, (change["version"], change["recommendations"])
    return faults


def unexplained_switches(records: Iterable[ConsumerRecord]) -> list[str]:
    """Where a track's list of one generation follows that of another, and the reason is not a promotion, in words."""
    found: list[str] = []
    before: dict[bytes, int] = {}
    for record in records:
        if record.value is None:
            before.pop(record.key, None)
            continue
        change = orjson.loads(record.value)
        number = change["generation"]
        if before.get(record.key, number) != number and change["reason"] != "promoted":
            found.append(f"{record.key!r} at {record.partition}/{record.offset}: {change['reason']}")
        before[record.key] = number
    return found

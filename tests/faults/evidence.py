"""What a fault of an oracle is judged by: all that the log, the feed and the store say of the track that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable

import asyncpg
import orjson
from aiokafka import ConsumerRecord

from tests.support.worker import read_topic

_NAMED = re.compile(
    r"track ([^ ]+) (?:is|should)|list of (?:the deleted )?([^ ]+)|b'([^']+)' at|last word on ([^ ]+) "
)
# Further tracks tell nothing new.
_MOST = 4
_OF_ALL = ("ingest_partitions", "absorbed_offsets", "told_offsets", "moves", "withdrawals", "departures")


async def evidence(
    faults: Iterable[str], database_url: str, servers: str, feeds: Iterable[str] = ("recommendations",)
) -> str:
    """Return what is known of the first few tracks that the faults name, and the tables of offsets."""
    found = [_NAMED.search(fault) for fault in faults]
    names = [next(group for group in each.groups() if group) for each in found if each]
    if not names:
        return ""
    kept = list(dict.fromkeys(names))[:_MOST]
    lines = []
    for topic in ("track-ingest", *feeds, "dead-letters"):
        records = await read_topic(servers, topic)
        lines += [f"--- {topic} of {', '.join(kept)}"]
        lines += [
            _said(record)
            for record in records
            if record.key is not None and record.key.decode(errors="replace") in kept
        ]
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT key, track_id, source_partition, source_offset FROM tracks WHERE track_id = ANY($1)", kept
        )
        lines += ["--- tracks", *(str(dict(row)) for row in rows)]
        for table in _OF_ALL:
            lines += [
                f"--- {table}",
                *(str(dict(row)) for row in await connection.fetch(f"SELECT * FROM {table} LIMIT 100")),
            ]
    finally:
        await connection.close()
    return "\n".join(lines)


def _said(record: ConsumerRecord) -> str:
    """One message in one line: where it stands, when, and what a list's message told."""
    what = f"{record.key!r} at {record.partition}/{record.offset} of {record.timestamp}"
    if record.value is None:
        return f"{what}: a tombstone"
    try:
        change = orjson.loads(record.value)
        names = [item["track_id"] for item in change["recommendations"]]
    except (ValueError, KeyError, TypeError):
        return f"{what}: {record.value[:80]!r}"
    told = {name: change.get(name) for name in ("version", "reason", "added", "removed")}
    return f"{what}: {told}, {names}, headers {[(k, v) for k, v in record.headers]}"

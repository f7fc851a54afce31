"""What must be true in the end, seen from outside: in the store and on the topics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import asyncpg
import numpy as np
import orjson
from aiokafka import ConsumerRecord

from store.pool import UNAVAILABLE
from streams.contracts import read_dead_letter_headers
from tests.faults.history import LoggedCatalogue
from tests.support.feed import feed_faults
from tests.support.worker import read_topic, settle, wrong_lists

# An engine's own refills are flushed twice as often.
QUIET_SECONDS = 1.5


async def all_told(database_url: str, patience: float) -> None:
    """Wait until the change feed has every list and every tombstone."""
    deadline = time.monotonic() + patience
    state: object = None
    while time.monotonic() < deadline:
        try:
            connection = await asyncpg.connect(database_url)
            try:
                state = await connection.fetchrow(
                    "SELECT (SELECT count(*) FROM neighbour_lists l JOIN tracks t USING (key) JOIN ingest_partitions p "
                    "ON p.partition = t.source_partition WHERE l.version > p.published_version) AS untold, "
                    "(SELECT count(*) FROM withdrawals) AS owed"
                )
            finally:
                await connection.close()
        except UNAVAILABLE as error:
            state = repr(error)
        else:
            if not state["owed"] and not state["untold"]:
                return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the change feed does not catch up: {state}")


async def at_rest(
    database_url: str, servers: str, patience: float, *, topic: str = "track-ingest", told: bool = True
) -> None:
    """Wait until everything published has been applied, flushed and told, and no list is written any more.

    Who has just taken partitions over may write lists once more that it has computed instead of reading them.

    Args:
        database_url: The tables of a generation.
        servers: The broker.
        patience: How long it may take.
        topic: Of the generation's events.
        told: Whether it serves, and so tells of its lists.
    """
    deadline = time.monotonic() + patience
    before = None
    while time.monotonic() < deadline:
        await settle(database_url, servers, patience=patience, topic=topic)
        if told:
            await all_told(database_url, patience)
        now = await _newest_list(database_url)
        if now == before:
            return
        before = now
        await asyncio.sleep(QUIET_SECONDS)
    raise AssertionError("lists are written again and again")


async def _newest_list(database_url: str) -> object:
    """The newest version of any list, and the epochs of all partitions."""
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchrow(
            "SELECT (SELECT max(version) FROM neighbour_lists), (SELECT sum(epoch) FROM ingest_partitions)"
        )
    finally:
        await connection.close()


async def faults_at_rest(
    database_url: str, servers: str, wanted: LoggedCatalogue, *, serves: bool = True
) -> list[str]:
    """Everything that is not as it must be, in words; call it when all is at rest.

    Args:
        database_url: The catalogue's tables.
        servers: The broker.
        wanted: What the log makes.
        serves: Whether its lists are those of the feed.
    """
    faults = await _wrong_tracks(database_url, wanted)
    wrong = await wrong_lists(database_url)
    if wrong:
        faults.append(f"{len(wrong)} stored lists are not those of brute force, e.g. {wrong[:5]}")
    letters = [
        record
        for record in await read_topic(servers, "dead-letters")
        if read_dead_letter_headers(record.headers)["mess.source.topic"] == "track-ingest"
    ]
    faults += wrong_letters(letters, wanted)
    return faults + (await wrong_feed(database_url, servers) if serves else [])


async def _wrong_tracks(database_url: str, wanted: LoggedCatalogue) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT track_id, source_partition, source_offset, embedding, title FROM tracks"
        )
    finally:
        await connection.close()
    found = {row["track_id"]: tuple(row)[1:] for row in rows}
    expected = {
        name: (kept.partition, kept.offset, kept.meaning.embedding, kept.meaning.title)
        for name, kept in wanted.tracks.items()
    }
    faults = [f"track {name} is lost" for name in sorted(expected.keys() - found.keys())]
    faults += [f"track {name} should not be" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            faults.append(f"track {name} is of {found[name][:2]}, not of {expected[name][:2]}, or differs")
    return faults


def wrong_letters(records: list[ConsumerRecord], wanted: LoggedCatalogue) -> list[str]:
    """Dead letters that are missing, of no bad event, or not as they were sent; repeats are allowed."""
    letters: Counter[tuple[int, int]] = Counter()
    faults = []
    for record in records:
        headers = read_dead_letter_headers(record.headers)
        at = int(headers["mess.source.partition"]), int(headers["mess.source.offset"])
        letters[at] += 1
        if at not in wanted.bad:
            faults.append(f"a dead letter of {at}, which is no bad event: {headers['mess.detail']}")
        elif wanted.bad[at] != (record.key, record.value):
            faults.append(f"the dead letter of {at} is not as it was sent")
    return faults + [f"the bad event at {at} has no dead letter" for at in wanted.bad.keys() - letters.keys()]


async def wrong_feed(database_url: str, servers: str, topic: str = "recommendations") -> list[str]:
    """Where a feed is not exact or does not end with the lists of these tables, in words."""
    told = await read_topic(servers, topic)
    faults = feed_faults(told)
    last = {record.key.decode(): record for record in told}
    stored = await stored_lists(database_url)
    for name, wanted in stored.items():
        record = last.pop(name, None)
        if record is None or record.value is None:
            faults.append(f"the feed {'never told' if record is None else 'took back'} the list of {name}")
            continue
        change = orjson.loads(record.value)
        items = [(item["track_id"], float(np.float32(item["score"]))) for item in change["recommendations"]]
        if (change["version"], items) != wanted:
            faults.append(
                f"the feed's last word on {name} is version {change['version']} (offset {record.offset}), "
                f"stored is {wanted[0]}{'' if items == wanted[1] else ', another list'}"
            )
    faults += [
        f"the feed still has a list of the deleted {name}"
        for name, record in last.items()
        if record.value is not None
    ]
    return faults


async def stored_lists(database_url: str) -> dict[str, tuple[int, list[tuple[str, float]]]]:
    """By track id, the version and the (id, score) of each stored list."""
    connection = await asyncpg.connect(database_url)
    try:
        names = dict(await connection.fetch("SELECT key, track_id FROM tracks"))
        rows = await connection.fetch("SELECT key, version, neighbours, scores FROM neighbour_lists")
    finally:
        await connection.close()
    return {
        names.get(row["key"], str(row["key"])): (
            row["version"],
            [(names.get(k, str(k)), s) for k, s in zip(row["neighbours"], row["scores"], strict=True)],
        )
        for row in rows
    }

"""`mess dead-letters` against a real broker and a real Postgres."""

import asyncio
import concurrent.futures
import json
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from mess.cli import build_cli
from store.dead_letters import only_operator
from streams.contracts import InvalidEvent, Reason, dead_letter_headers
from streams.kafka.clients import start_producer
from streams.kafka.topics import DEAD_LETTERS, TRACK_INGEST
from streams.settings import KafkaSettings
from tests.support.services import KafkaBroker
from tests.support.worker import read_topic

pytestmark = pytest.mark.integration

OWN_HEADERS = [("trace", b"\xff\x00")]
AT = {"partition": 3, "offset": 17}


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in a loop of its own."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Operator:
    """Writes dead letters as a worker does, and runs the command."""

    def __init__(self, servers: str, database_url: str) -> None:
        self.servers = servers
        self.environment = {"MESS_KAFKA_BOOTSTRAP_SERVERS": servers, "MESS_DATABASE_URL": database_url}

    def refuse(self, key: bytes, value: bytes | None, reason: Reason, topic: str = TRACK_INGEST) -> str:
        """Write a dead letter; returns its place."""
        headers = dead_letter_headers(
            InvalidEvent(reason, "as a test wants it"), topic=topic, received=OWN_HEADERS, **AT
        )
        return self.write(key, value, headers)

    def write(self, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> str:
        """Write any message to dead-letters; returns its place."""

        async def write() -> str:
            producer = await start_producer(KafkaSettings(bootstrap_servers=self.servers))
            try:
                sent = await producer.send_and_wait(DEAD_LETTERS, key=key, value=value, headers=headers)
                return f"{sent.partition}:{sent.offset}"
            finally:
                await producer.stop()

        return str(in_a_loop(write()))

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run `mess dead-letters`; returns what it printed, on both."""
        result = CliRunner().invoke(build_cli(), ["dead-letters", *arguments], env=self.environment)
        assert result.exit_code == status, result.output
        return result.output

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What `list --json` tells."""
        shown = self.run("list", "--json", *arguments)
        return [json.loads(line) for line in shown.splitlines() if line.startswith("{")]

    def ingested(self, key: bytes) -> list[Any]:
        """What track-ingest holds under a key."""
        return [r for r in in_a_loop(read_topic(self.servers, TRACK_INGEST)) if r.key == key]


@pytest.fixture
def operator(pipeline_broker: KafkaBroker, database_url: str) -> Operator:
    """The command against this module's topics, in which each test has keys of its own, and an own database."""
    return Operator(pipeline_broker.bootstrap_servers, database_url)


def test_a_dead_letter_goes_back_as_it_came_and_once(operator: Operator) -> None:
    """A replay restores key, bytes, partition and own headers; another one does nothing until told `--again`."""
    key, value = b"replay/1", b"\xff\xfe not JSON"
    place = operator.refuse(key, value, Reason.MALFORMED_JSON)
    (listed,) = [each for each in operator.listed() if each["place"] == place]
    assert listed["reason"] == "malformed_json"
    assert listed["source"] == {"topic": TRACK_INGEST, **AT}
    assert (listed["bytes"], listed["state"]) == (len(value), "open")

    assert "1 sent back" in operator.run("replay", place)
    (record,) = operator.ingested(key)
    assert (record.partition, record.value, list(record.headers)) == (AT["partition"], value, OWN_HEADERS)

    assert "Something was done" in operator.run("replay", place, status=2)
    assert len(operator.ingested(key)) == 1
    assert place not in [each["place"] for each in operator.listed()]
    assert place in [each["place"] for each in operator.listed("--state", "replayed")]
    operator.run("replay", place, "--again")
    assert len(operator.ingested(key)) == 2


def test_many_are_chosen_by_filters_and_need_a_yes(operator: Operator) -> None:
    """Filters and `--all` deal with nothing where nobody can be asked, unless `--yes` is given."""
    places = [operator.refuse(b"many/%d" % n, b"{}", Reason.ZERO_VECTOR) for n in range(3)]
    other = operator.refuse(b"many/other", None, Reason.KEY_MISMATCH)
    assert "--yes" in operator.run("drop", "--reason", "zero_vector", "--since", "1h", status=2)
    assert "nothing says which" in operator.run("drop", status=2)
    assert "3 dropped" in operator.run("drop", "--reason", "zero_vector", "--topic", TRACK_INGEST, "--yes")
    assert {each["place"] for each in operator.listed("--state", "dropped")} == set(places)
    assert other in [each["place"] for each in operator.listed()]
    assert operator.listed("--until", "2001-01-01") == []
    assert "no such dead letters" in operator.run("replay", "--reason", "zero_vector", "--yes")


def test_what_would_replace_a_later_event_stays(operator: Operator, database_url: str) -> None:
    """An event whose track has been written since is left, and said so; `--over-newer` sends it back all the same."""

    async def store_a_later_event() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "INSERT INTO tracks (track_id, key, embedding, source_partition, source_offset, event_time)"
            " VALUES ('late/1', 1, '\\x00', $1, $2, now())",
            AT["partition"],
            AT["offset"] + 1,
        )
        await connection.close()

    place = operator.refuse(b"late/1", b"{}", Reason.WRONG_DIMENSION)
    in_a_loop(store_a_later_event())
    assert "--over-newer" in operator.run("replay", place, status=1)
    assert operator.ingested(b"late/1") == []
    operator.run("replay", place, "--over-newer")
    assert len(operator.ingested(b"late/1")) == 1


def test_what_cannot_go_back_is_said_in_one_line(operator: Operator, database_url: str) -> None:
    """Messages without a source, unknown places and a second operator end in a line and an exit status."""
    stranger = operator.write(b"stranger", b"\x00\x01", [])
    assert "nothing says where it came from" in operator.run("replay", stranger, status=1)
    assert "00000000  00 01" in operator.run("show", stranger, "--hex")
    assert json.loads(operator.run("show", operator.refuse(b"k", b'{"a":1}', Reason.TOO_LARGE)))["value"] == {
        "a": 1
    }
    assert "there is no dead letter 0:999999" in operator.run("show", "0:999999", status=2)
    assert "is not PARTITION:OFFSET" in operator.run("replay", "nonsense", status=2)
    assert "neither a time" in operator.run("list", "--since", "yesterday", status=2)

    async def drop_meanwhile() -> str:
        async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool, only_operator(pool):
            return await asyncio.to_thread(operator.run, "drop", stranger, status=2)

    assert "another `mess dead-letters`" in in_a_loop(drop_meanwhile())


def test_an_environment_is_held_against_what_runs(
    operator: Operator, database_url: str, api_database_url: str
) -> None:
    """`mess check-env --connect` finds a role that does not fit, another dimension, and a broker without the topics."""

    def check(*arguments: str, **changes: str) -> tuple[int, str]:
        environment = operator.environment | changes
        result = CliRunner().invoke(build_cli(), ["check-env", "--connect", *arguments], env=environment)
        return result.exit_code, result.output

    async def fix_dimension() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("INSERT INTO catalogue (dimension) VALUES (4)")
        await connection.close()

    assert check()[0] == 0
    assert check("--api", MESS_DATABASE_URL=api_database_url)[0] == 0
    assert "its role can write" in check("--api")[1]
    assert "its role cannot write" in check(MESS_DATABASE_URL=api_database_url)[1]
    in_a_loop(fix_dimension())
    assert check(MESS_EMBEDDING_DIMENSION="4")[0] == 0
    status, shown = check(MESS_EMBEDDING_DIMENSION="5", MESS_INGEST_PARTITIONS="9")
    assert status == 2
    assert "is 5, and the catalogue has 4" in shown
    assert "track-ingest has 8 partitions; 9 are wanted" in shown
    assert "no Kafka broker answers" in check(MESS_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")[1]

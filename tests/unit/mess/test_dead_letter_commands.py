"""`mess dead-letters` on a topic and a store in memory."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mess.cli import build_cli
from mess.cli import dead_letters as commands
from mess.dead_letters import selection as letters
from mess.dead_letters.selection import DeadLetterSelection, SelectedDeadLetters
from mess.dead_letters.topic import DeadLetter
from tests.unit.mess.test_dead_letters import letter

pytestmark = pytest.mark.unit


class Topic:
    """Dead letters in memory, and what was asked of them."""

    def __init__(self) -> None:
        self.held = [SelectedDeadLetters(letter(offset), 2, None) for offset in (5, 6, 7)]
        self.overtaken: set[Any] = set()
        self.wanted: DeadLetterSelection | None = None
        self.sent: list[str] = []
        self.dropped: list[str] = []
        self.locked = False

    async def with_store(self, settings: object, command: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        del settings, command
        return await work(None)

    @contextlib.asynccontextmanager
    async def only_operator(self, pool: object) -> AsyncIterator[None]:
        del pool
        self.locked = True
        yield
        self.locked = False

    async def find_dead_letters(
        self, kafka: object, pool: object, wanted: DeadLetterSelection
    ) -> list[SelectedDeadLetters]:
        del kafka, pool
        self.wanted = wanted
        return self.held

    async def find_overtaken(self, pool: object, found: list[SelectedDeadLetters]) -> set[Any]:
        del pool, found
        return self.overtaken

    async def replay_dead_letters(
        self, kafka: object, pool: object, found: list[SelectedDeadLetters], left_out: Callable[..., object]
    ) -> int:
        del kafka, pool
        assert self.locked
        last = found[-1].letter
        left_out(last, "its topic is gone")
        self.sent = [each.letter.place for each in found[:-1]]
        return len(self.sent)

    async def drop_dead_letters(self, pool: object, found: list[SelectedDeadLetters]) -> None:
        del pool
        assert self.locked
        self.dropped = [each.letter.place for each in found]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """What the commands find."""
    memory = Topic()
    monkeypatch.setenv("MESS_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("MESS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(commands, "with_store", memory.with_store)
    monkeypatch.setattr(commands, "only_operator", memory.only_operator)
    for name in ("find_dead_letters", "find_overtaken", "replay_dead_letters", "drop_dead_letters"):
        own, real = getattr(memory, name), getattr(letters, name)
        assert list(inspect.signature(own).parameters) == list(inspect.signature(real).parameters)
        monkeypatch.setattr(letters, name, own)
    return memory


def mess(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(build_cli(), ["dead-letters", *arguments])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["list", "--state", "new"], "--state is open, replayed, dropped or any, not 'new'"),
        (["list", "--since", "lately"], "'lately' is neither a time"),
        (["show", "5"], "'5' is not PARTITION:OFFSET"),
        (["replay"], "nothing says which dead letters: name some, or give filters, or --all alone."),
        (["replay", "--all", "0:5"], "--all means all of them: name some"),
        (["drop", "--all", "--reason", "not_finite"], "--all means all of them: name some"),
        (["replay", "0:x"], "'0:x' is not PARTITION:OFFSET"),
        (["drop", "--all"], "3 dead letters are meant (3 wrong_dimension)."),
        (["replay", "--reason", "wrong_dimension"], "3 dead letters are meant (3 wrong_dimension)."),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_changes_nothing(
    topic: Topic, options: list[str], said: str
) -> None:
    """Without a terminal nobody can be asked, and nothing is taken for yes."""
    done = mess(*options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert (topic.sent, topic.dropped) == ([], [])


def test_the_newest_are_listed_and_the_others_counted(topic: Topic) -> None:
    """The open ones, unless others are asked for."""
    done = mess("list", "--limit", "2", "--json", "--topic", "track-ingest")
    assert [orjson.loads(line)["place"] for line in done.stdout.splitlines()] == ["0:6", "0:7"]
    assert done.stderr == "and 1 older ones: --limit\n"
    assert topic.wanted is not None
    assert (topic.wanted.state, topic.wanted.topic) == ("open", "track-ingest")
    topic.held = []
    assert (mess("list").stdout, mess("list").stderr) == ("", "There are no such dead letters.\n")


def test_what_is_sent_back_and_what_is_left_is_told(topic: Topic) -> None:
    """One whose track has had a later event stays, unless that is asked for; the status says that some are left."""
    topic.overtaken = {topic.held[0].letter.id}
    done = mess("replay", "--all", "--yes")
    assert done.exit_code == 1
    assert topic.sent == ["0:6"]
    assert done.stderr.splitlines() == [
        "left 0:5: its track has had a later event since (--over-newer)",
        "left 0:7: its topic is gone",
    ]
    assert done.stdout == "1 sent back, 2 left\n"
    mess("replay", "--all", "--yes", "--over-newer", "--again")
    assert topic.sent == ["0:5", "0:6"]
    assert topic.wanted is not None
    assert topic.wanted.state == "any"


def test_those_that_are_named_need_no_second_word(topic: Topic) -> None:
    """Each is looked up by its place."""
    done = mess("drop", "0:5", "0:6", "0:7")
    assert (done.exit_code, done.stdout) == (0, "3 dropped\n")
    assert topic.dropped == ["0:5", "0:6", "0:7"]
    assert topic.wanted is not None
    assert topic.wanted.places == ((0, 5), (0, 6), (0, 7))


def test_nothing_to_do_is_no_failure_unless_it_was_named(topic: Topic) -> None:
    """Then something was done about it before."""
    topic.held = []
    assert mess("replay", "--all").exit_code == 0
    named = mess("replay", "0:5")
    assert named.exit_code == 2
    assert "Something was done about these before." in named.stderr


@pytest.mark.parametrize(
    ("option", "shown"), [("--raw", b"{}"), ("--hex", b"7b 7d"), ("--", b"wrong_dimension")]
)
def test_one_is_shown_as_it_is_asked_for(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, option: str, shown: bytes
) -> None:
    """Its bytes alone, as a dump, or with all that is known of it."""

    async def read(kafka: object, partition: int, offset: int) -> DeadLetter:
        del kafka
        assert (partition, offset) == (0, 5)
        return topic.held[0].letter

    async def handled(pool: object) -> dict[Any, Any]:
        del pool
        return {}

    monkeypatch.setattr(commands, "read_dead_letter", read)
    monkeypatch.setattr(commands, "fetch_handled", handled)
    done = mess("show", option, "0:5")
    assert done.exit_code == 0, done.output
    assert shown in done.stdout_bytes
    assert (done.stdout_bytes == shown) == (option == "--raw")

"""`mess keys` on a store in memory."""

import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mess.cli import build_cli
from mess.cli import keys as commands
from store import keys
from store.errors import StoreUnavailableError
from store.keys import ApiKey

pytestmark = pytest.mark.unit

NOW = datetime.now(UTC)


class Store:
    """Keys in memory, by prefix."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.refuses: Exception | None = None

    async def with_store(self, settings: object, command: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        del settings, command
        if self.refuses is not None:
            raise self.refuses
        return await work(None)

    async def add_key(
        self, pool: object, key: str, *, name: str, scopes: set[str], rate_limit: str | None, expires_at: Any
    ) -> None:
        del pool
        prefix = keys.prefix_of(key)
        assert prefix is not None
        self.keys[prefix] = ApiKey(
            prefix, keys.digest_of(key), name, frozenset(scopes), rate_limit, NOW, expires_at, None
        )

    async def list_keys(self, pool: object) -> list[ApiKey]:
        del pool
        return list(self.keys.values())

    async def revoke_key(self, pool: object, prefix: str) -> bool:
        del pool
        known = self.keys[prefix]
        self.keys[prefix] = ApiKey(*[getattr(known, name) for name in known.__slots__[:-1]], NOW)
        return known.revoked_at is None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """What the commands find."""
    memory = Store()
    monkeypatch.setenv("MESS_DATABASE_URL", "postgresql://x")
    monkeypatch.setattr(commands, "with_store", memory.with_store)
    for name in ("add_key", "list_keys", "revoke_key"):
        own, real = getattr(memory, name), getattr(keys, name)
        assert list(inspect.signature(own).parameters) == list(inspect.signature(real).parameters)
        monkeypatch.setattr(keys, name, own)
    return memory


def mess(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(build_cli(), ["keys", *arguments])


def test_a_key_is_printed_once_and_its_digest_is_stored(store: Store) -> None:
    """On standard output nothing else, so that it can be piped."""
    done = mess("create", "partner", "--expires", "90d", "--rate", "100/minute", "--scope", "read")
    assert done.exit_code == 0, done.output
    key = done.stdout.strip()
    (stored,) = store.keys.values()
    assert (stored.digest, stored.prefix) == (keys.digest_of(key), keys.prefix_of(key))
    assert (stored.scopes, stored.rate_limit) == (frozenset({"read"}), "100/minute")
    assert stored.expires_at is not None
    assert timedelta(days=89) < stored.expires_at - NOW < timedelta(days=91)
    assert "partner: read, until" in done.stderr
    assert key not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["create", " "], "A name is 1 to 100 printable characters."),
        (["create", "a\nb"], "A name is 1 to 100 printable characters."),
        (["create", "x" * 101], "A name is 1 to 100 printable characters."),
        (["create", "a", "--scope", "write"], "There is no scope 'write'; known: "),
        (["create", "a", "--rate", "often"], "'often'"),
        (["create", "a", "--expires", "soon"], "'soon' is neither a time"),
        (["create", "a", "--expires", "2001-01-01"], "2001-01-01 is not to come."),
        (["revoke", "abc"], "Give --yes."),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_changes_nothing(
    store: Store, options: list[str], said: str
) -> None:
    """Before the store is asked."""
    store.refuses = AssertionError("asked")
    done = mess(*options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert store.keys == {}


def test_the_list_says_which_keys_can_be_used(store: Store) -> None:
    """As a table, and as lines for a program; without keys it says so beside standard output."""
    assert (mess("list").stdout, mess("list").stderr) == ("", "There are no keys.\n")
    for prefix, ends, revoked in (("usable00", None, None), ("expired0", NOW, None), ("revoked0", NOW, NOW)):
        store.keys[prefix] = ApiKey(prefix, b"", prefix, frozenset({"read"}), None, NOW, ends, revoked)
    rows = [orjson.loads(line) for line in mess("list", "--json").stdout.splitlines()]
    assert [(row["prefix"], row["state"]) for row in rows] == [
        ("usable00", "usable"),
        ("expired0", "expired"),
        ("revoked0", "revoked"),
    ]
    table = mess("list").stdout.splitlines()
    assert table[0].split()[:3] == ["prefix", "name", "state"]
    assert table[1].split()[:5] == ["usable00", "usable00", "usable", "read", "-"]


def test_a_key_is_revoked_by_its_prefix_or_in_full(store: Store) -> None:
    """As people copy either; a second time changes nothing, and says so."""
    key = mess("create", "partner").stdout.strip()
    prefix = keys.prefix_of(key)
    assert mess("revoke", "--yes", key).stdout == f"{prefix} is revoked\n"
    assert mess("revoke", "--yes", str(prefix)).stdout == f"{prefix} was revoked before\n"


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        (asyncpg.InsufficientPrivilegeError("no"), "MESS_DATABASE_URL must be the schema owner's."),
        (asyncpg.ReadOnlySQLTransactionError("no"), "MESS_DATABASE_URL must be the schema owner's."),
        (StoreUnavailableError("Postgres is not available"), "Postgres is not available"),
    ],
)
def test_a_store_that_refuses_is_one_line(store: Store, refuses: Exception, said: str) -> None:
    """With what to do, and no key that nobody stored."""
    store.refuses = refuses
    done = mess("create", "partner")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr

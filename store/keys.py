"""API keys: `mess keys` creates and revokes them, the API reads their digests. The key itself is never stored."""

import hashlib
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from store.errors import StoreError
from store.pool import transaction, translated_errors

# The scopes of a key, with descriptions.
SCOPES: Final = {
    "read": "the catalogue, strategies and the change feed",
    "recommend": "recommendations, comparisons and explanations",
}
# An API process holds about half a kilobyte for each.
MAX_KEYS: Final = 100_000

_KEY = re.compile(r"mess_([0-9a-f]{8})_[0-9a-f]{64}")
_COLUMNS = "prefix, digest, name, scopes, rate_limit, created_at, expires_at, revoked_at"


class KeyUnknownError(StoreError):
    """There is no such key."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"there is no key {prefix!r}; `mess keys list` shows them all")


class KeysUnreadableError(StoreError):
    """This role may not read keys."""

    def __init__(self) -> None:
        super().__init__(
            "this database role may not read keys: `mess roles grant`, as the schema's owner, lets it"
        )


class TooManyKeysError(StoreError):
    """The maximum number of keys exists."""

    def __init__(self) -> None:
        super().__init__(f"there are {MAX_KEYS:,} keys in use, which is as many as there may be: revoke some")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key.

    Attributes:
        prefix: Identifies it: the eight characters after `mess_`.
        digest: SHA-256 of the whole key, 32 bytes.
        name: Its owner, for people.
        scopes: Its scopes, of `SCOPES`.
        rate_limit: Its own rate, such as `100/minute`; None for the default.
        created_at: When it was made, aware.
        expires_at: From when on it is not valid, aware; None for never.
        revoked_at: When it was revoked, aware; None if it was not.
    """

    prefix: str
    digest: bytes
    name: str
    scopes: frozenset[str]
    rate_limit: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def new_key() -> str:
    """A new key of 256 random bits: an unsalted digest of it cannot be reversed."""
    return f"mess_{secrets.token_hex(4)}_{secrets.token_hex(32)}"


def prefix_of(key: str) -> str | None:
    """The prefix of a key; None if `key` does not look like one."""
    matched = _KEY.fullmatch(key)
    return matched[1] if matched else None


def digest_of(key: str) -> bytes:
    """SHA-256 of a key, 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


async def add_key(
    pool: asyncpg.Pool,
    key: str,
    *,
    name: str,
    scopes: Collection[str],
    rate_limit: str | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Store the digest of `key`, which `new_key` made.

    Raises:
        TooManyKeysError: There are `MAX_KEYS` in use.
        StoreUnavailableError: Postgres cannot be reached.
    """
    async with transaction(pool) as connection:
        await _lock(connection)
        in_use = await connection.fetchval(
            "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)"
        )
        if in_use >= MAX_KEYS:
            raise TooManyKeysError
        await connection.execute(
            """
            INSERT INTO api_keys (prefix, digest, name, scopes, rate_limit, expires_at, version)
            SELECT $1, $2, $3, $4, $5, $6, coalesce(max(version), 0) + 1 FROM api_keys
            """,
            prefix_of(key),
            digest_of(key),
            name,
            sorted(scopes),
            rate_limit,
            expires_at,
        )


async def revoke_key(pool: asyncpg.Pool, prefix: str) -> bool:
    """Revoke a key for good; False if it was revoked already.

    Raises:
        KeyUnknownError: There is no such key.
        StoreUnavailableError: Postgres cannot be reached.
    """
    async with transaction(pool) as connection:
        await _lock(connection)
        changed = await connection.execute(
            """
            UPDATE api_keys SET revoked_at = now(), version = (SELECT max(version) + 1 FROM api_keys)
            WHERE prefix = $1 AND revoked_at IS NULL
            """,
            prefix,
        )
        if changed == "UPDATE 0":
            if await connection.fetchval("SELECT 1 FROM api_keys WHERE prefix = $1", prefix) is None:
                raise KeyUnknownError(prefix)
            return False
        return True


async def list_keys(pool: asyncpg.Pool) -> list[ApiKey]:
    """All keys, the oldest first, revoked and expired ones included.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors():
        rows = await pool.fetch(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, prefix")  # noqa: S608
    return [_key(row) for row in rows]


async def fetch_keys_version(pool: asyncpg.Pool) -> int:
    """A number that changes with every change to a key.

    Raises:
        KeysUnreadableError: This role may not read keys.
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors(), _readable():
        version: int = await pool.fetchval("SELECT coalesce(max(version), 0) FROM api_keys")
    return version


async def fetch_usable_keys(pool: asyncpg.Pool) -> list[ApiKey]:
    """The keys that are neither revoked nor expired.

    Raises:
        KeysUnreadableError: This role may not read keys.
        StoreUnavailableError: Postgres cannot be reached.
    """
    with translated_errors(), _readable():
        rows = await pool.fetch(
            f"SELECT {_COLUMNS} FROM api_keys"  # noqa: S608
            " WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true) LIMIT $1",
            MAX_KEYS,
        )
    return [_key(row) for row in rows]


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as exc:
        raise KeysUnreadableError from exc


async def _lock(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Serialise changes: versions must grow in the order of commits. Readers are not blocked."""
    await connection.execute("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE")


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(**{**row, "scopes": frozenset(row["scopes"])})

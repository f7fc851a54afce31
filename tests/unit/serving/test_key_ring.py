"""The keys that an API process holds, over a store that only notes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving import keys
from serving.keys import ApiKeyRing
from store.errors import StoreUnavailableError
from store.keys import ApiKey, digest_of, new_key, prefix_of
from tests.support.polling import until

pytestmark = pytest.mark.unit

POOL: Any = None


def stored(key: str, *, rate: str | None = None, expires_in: float | None = None) -> ApiKey:
    """What the store has of a key; `expires_in` seconds from now."""
    now = datetime.now(UTC)
    expires_at = None if expires_in is None else now + timedelta(seconds=expires_in)
    prefix = prefix_of(key)
    assert prefix is not None
    return ApiKey(prefix, digest_of(key), "a name", frozenset({"read"}), rate, now, expires_at, None)


class KeyStore:
    """The reads of `store.keys`, as the test sets them."""

    def __init__(self) -> None:
        self.version = 1
        self.keys: list[ApiKey] = []
        self.reads = 0
        self.away = False

    async def fetch_keys_version(self, _: object) -> int:
        if self.away:
            raise StoreUnavailableError("no connection")
        return self.version

    async def fetch_usable_keys(self, _: object) -> list[ApiKey]:
        self.reads += 1
        return self.keys


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """A store in place of Postgres."""
    made = KeyStore()
    monkeypatch.setattr(keys, "fetch_keys_version", made.fetch_keys_version)
    monkeypatch.setattr(keys, "fetch_usable_keys", made.fetch_usable_keys)
    return made


async def test_only_the_whole_key_is_valid(store: KeyStore) -> None:
    """Another secret under a known prefix, an unknown prefix, and text that is no key are all refused."""
    key, other = new_key(), new_key()
    store.keys = [stored(key)]
    ring = ApiKeyRing(60)
    await ring.load(POOL)
    found = ring.check(key)
    assert found is not None
    assert found.prefix == prefix_of(key)
    forged = f"{key[:14]}{other[14:]}"
    assert prefix_of(forged) == prefix_of(key)
    assert [ring.check(each) for each in (forged, other, "mess_", "")] == [None] * 4


async def test_a_key_ends_without_anybody_asking_the_store(store: KeyStore) -> None:
    """One whose time has passed since it was read is refused."""
    over, good = new_key(), new_key()
    store.keys = [stored(over, expires_in=-1), stored(good, expires_in=60)]
    ring = ApiKeyRing(60)
    await ring.load(POOL)
    assert ring.check(over) is None
    assert ring.check(good) is not None


async def test_a_rate_that_cannot_be_read_is_the_default(store: KeyStore) -> None:
    """A key keeps working where its own rate is broken."""
    store.keys = [stored(new_key(), rate="100/minute"), stored(new_key(), rate="often"), stored(new_key())]
    ring = ApiKeyRing(60)
    await ring.load(POOL)
    assert [ring.rate_of(key) is not None for key in store.keys] == [True, False, False]


async def test_keys_are_read_again_when_one_has_changed(store: KeyStore) -> None:
    """A new version brings the new keys; the same version reads nothing; an outage leaves what is known."""
    first, second = new_key(), new_key()
    store.keys = [stored(first)]
    ring = ApiKeyRing(0.001)
    await ring.load(POOL)
    running = asyncio.create_task(ring.run(lambda: POOL))
    await asyncio.sleep(0.02)
    assert len(ring) == 1
    store.away = True
    await asyncio.sleep(0.02)
    assert ring.check(first) is not None
    store.keys, store.version, store.away = [stored(second)], 2, False
    await until(lambda: ring.check(second) is not None, 0.001)
    assert ring.check(first) is None
    running.cancel()

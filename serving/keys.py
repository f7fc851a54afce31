"""The usable API keys, cached in memory and refreshed from the store."""

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
import structlog

from serving.rates import RequestRate
from store.errors import StoreError
from store.keys import ApiKey, digest_of, fetch_keys_version, fetch_usable_keys, prefix_of

logger = structlog.get_logger("serving")

_NOBODY = digest_of("")
# All keys are read again after so long even without a change of version: a database may have been restored.
_WHOLE_EVERY = 60


class ApiKeyRing:
    """All usable keys. A lookup needs no query, so a flood of wrong keys does not reach Postgres.

    While Postgres is away, the keys read last stay valid until they expire.

    Args:
        refresh: Seconds between checks for changes: the maximum delay until a new key works and a revoked one does not.
        timeout: Seconds that a check may take.
    """

    def __init__(self, refresh: float, timeout: float = 5.0) -> None:
        self._refresh = refresh
        self._timeout = timeout
        self._keys: dict[str, ApiKey] = {}
        self._rates: dict[str, RequestRate] = {}
        self._version = -1

    def __len__(self) -> int:
        return len(self._keys)

    def check(self, presented: str) -> ApiKey | None:
        """The key that was presented, if it is valid now. The time does not depend on how nearly it matches a key."""
        prefix = prefix_of(presented)
        if prefix is None:
            return None
        key = self._keys.get(prefix)
        same = hmac.compare_digest(key.digest if key else _NOBODY, digest_of(presented))
        if key is None or not same:
            return None
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            return None
        return key

    def rate_of(self, key: ApiKey) -> RequestRate | None:
        """The key's own rate; None for the default."""
        return self._rates.get(key.prefix)

    async def load(self, pool: asyncpg.Pool) -> None:
        """Read every usable key.

        Raises:
            StoreUnavailableError: Postgres cannot be reached.
        """
        # The version is read first: a change in between is read at the next check.
        version = await fetch_keys_version(pool)
        keys = await fetch_usable_keys(pool)
        self._keys = {key.prefix: key for key in keys}
        self._rates = {key.prefix: rate for key in keys if (rate := _rate(key)) is not None}
        self._version = version

    async def run(self, pool_of: Callable[[], asyncpg.Pool]) -> None:
        """Refresh the keys from the store, for ever; `pool_of` has its connections at the moment."""
        away = False
        looks = 0
        while True:
            await asyncio.sleep(self._refresh)
            looks += 1
            pool = pool_of()
            try:
                async with asyncio.timeout(self._timeout):
                    if looks % _WHOLE_EVERY == 0 or await fetch_keys_version(pool) != self._version:
                        await self.load(pool)
                if away:
                    logger.info("keys are read again")
                away = False
            except (StoreError, TimeoutError) as error:
                if not away:
                    reason = str(error) or "the store does not answer in time"
                    logger.warning("keys cannot be read: those known go on working", error=reason)
                away = True


def _rate(key: ApiKey) -> RequestRate | None:
    try:
        return RequestRate.parse(key.rate_limit) if key.rate_limit else None
    except ValueError as error:
        logger.error("a key has no usable rate: the usual one holds", key=key.prefix, error=str(error))
        return None

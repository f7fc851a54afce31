"""A real pgbouncer before Postgres: one that shares sessions is refused, one that keeps them is not."""

import asyncio
import contextlib
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from mess.stack.ports import LOOPBACK, pick_free
from store.errors import PoolerError
from store.pool import open_pool
from store.poolers import require_session
from store.settings import StoreSettings
from tests.support.polling import until

pytestmark = pytest.mark.integration

# Debian has it beside what only root runs.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
IGNORED = "ignore_startup_parameters=jit,default_transaction_read_only,idle_session_timeout"


@contextlib.asynccontextmanager
async def _pgbouncer(tmp_path: Path, database_url: str, *further: str) -> AsyncIterator[StoreSettings]:
    if PROGRAM is None:
        missing = "NOT CHECKED: poolers, for want of pgbouncer (apt-get install pgbouncer)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    url, (port,) = urlsplit(database_url), pick_free(1)
    users = tmp_path / "users"
    users.write_text(f'"{url.username}" "{url.password}"\n')
    settings = (
        f"listen_addr={LOOPBACK}",
        f"listen_port={port}",
        "unix_socket_dir=",
        "auth_type=scram-sha-256",
        f"auth_file={users}",
        *further,
    )
    file = tmp_path / "pgbouncer.ini"
    file.write_text(
        f"[databases]\n* = host={url.hostname} port={url.port}\n[pgbouncer]\n" + "\n".join(settings)
    )
    arguments = [PROGRAM, "-q", str(file)]
    if os.geteuid() == 0:  # which it refuses to be
        nobody = pwd.getpwnam("nobody")
        for path in (tmp_path, users, file):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for path in tmp_path.parents:
            if path.is_relative_to("/tmp") or path.is_relative_to("/dev/shm"):
                path.chmod(path.stat().st_mode | 0o011)
        arguments[1:1] = ["-u", "nobody"]
    process = await asyncio.create_subprocess_exec(*arguments)
    try:

        async def listens() -> bool:
            assert process.returncode is None
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, port)
                writer.close()
                return True
            return False

        await until(listens)
        pooled = url._replace(netloc=f"{url.username}:{url.password}@{LOOPBACK}:{port}")
        yield StoreSettings(database_url=SecretStr(urlunsplit(pooled)))
    finally:
        process.terminate()
        await process.wait()


async def test_postgres_itself_keeps_sessions(pool: asyncpg.Pool) -> None:
    """Nothing is refused without a pooler."""
    await require_session(pool)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_shares_sessions_is_refused(mode: str, database_url: str, tmp_path: Path) -> None:
    """With the reason, and what to name instead."""
    async with _pgbouncer(tmp_path, database_url, f"pool_mode={mode}", IGNORED) as settings:
        with pytest.raises(
            PoolerError, match=r"pool_mode=transaction.*name Postgres itself in MESS_DATABASE_URL"
        ):
            async with await open_pool(settings, application_name="test") as pool:
                await require_session(pool)


async def test_a_pooler_that_keeps_sessions_will_do(database_url: str, tmp_path: Path) -> None:
    """Under pool_mode=session each connection has its own until it is closed."""
    async with (
        _pgbouncer(tmp_path, database_url, "pool_mode=session", IGNORED) as settings,
        await open_pool(settings, application_name="test") as pool,
    ):
        await require_session(pool)


async def test_a_pooler_that_refuses_our_settings_is_told_which(database_url: str, tmp_path: Path) -> None:
    """It is not taken for a Postgres that is away, for which a worker would wait."""
    async with _pgbouncer(tmp_path, database_url, "pool_mode=session") as settings:
        with pytest.raises(PoolerError, match="unsupported startup parameter"):
            await open_pool(settings, application_name="test")

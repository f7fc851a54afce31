"""What a command connects to, and how it ends: services of the environment or the local stack, failures as one line."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import typer
from pydantic import SecretStr

from mess.cli.console import INCOMPLETE, INTERRUPTED, fail, quiet_libraries
from mess.settings import read_settings
from mess.stack.errors import StackError
from mess.stack.statefile import StackState, read_state
from store import generations
from store.errors import StoreError, StoreUnavailableError
from store.generations import GenerationError
from store.pool import open_pool, require_schema
from store.settings import StoreSettings
from streams.errors import StreamsError
from streams.generations import GenerationName
from streams.settings import KafkaSettings

Result = TypeVar("Result")

_DATABASE_HINT: Final = "Start the local stack with `mess up`, or set MESS_DATABASE_URL=postgresql://user:password@host:5432/name."
_BROKER_HINT: Final = "Start the local stack with `mess up`, or set MESS_KAFKA_BOOTSTRAP_SERVERS=host:port."
# Reading a large catalogue takes long.
_PATIENT_SECONDS: Final = 600.0


def kafka_settings(data_dir: Path) -> KafkaSettings:
    """The settings from the environment, or of the local stack that runs in `data_dir`.

    Exits with one line if neither names a broker, or a setting is wrong.
    """
    if os.environ.get("MESS_KAFKA_BOOTSTRAP_SERVERS"):
        return read_settings(KafkaSettings)
    stack = _local_stack(data_dir, "broker", _BROKER_HINT)
    return read_settings(KafkaSettings, bootstrap_servers=stack.bootstrap_servers)


def store_settings(data_dir: Path) -> StoreSettings:
    """The settings from the environment, or of the local stack that runs in `data_dir`.

    Exits with one line if neither names a database, or a setting is wrong.
    """
    if os.environ.get("MESS_DATABASE_URL"):
        return read_settings(StoreSettings)
    stack = _local_stack(data_dir, "database", _DATABASE_HINT)
    return read_settings(StoreSettings, database_url=SecretStr(stack.database_url))


def _local_stack(data_dir: Path, wanted: str, hint: str) -> StackState:
    try:
        state = read_state(data_dir)
    except StackError as error:
        fail(f"{error}.", hint=hint)
    if state is None:
        fail(f"No {wanted} is configured, and no local stack runs in {data_dir}.", hint=hint)
    return state


def run_command(work: Coroutine[Any, Any, Result], *, stopped: int | None = None) -> Result:
    """The result of `work`; a failure of a service is one line.

    Args:
        work: What to do.
        stopped: The exit code after Ctrl-C or when the reader of standard output has gone, which else are failures.
    """
    quiet_libraries()
    try:
        return asyncio.run(work)
    except (StoreError, StreamsError) as error:
        fail(str(error), hint=_DATABASE_HINT if isinstance(error, StoreUnavailableError) else None)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED if stopped is None else stopped) from None
    except BrokenPipeError:
        # Nothing more can be written, not even at exit.
        sys.stdout = None
        raise typer.Exit(INCOMPLETE if stopped is None else stopped) from None


async def with_store(
    store: StoreSettings,
    command: str,
    work: Callable[[asyncpg.Pool], Awaitable[Result]],
    *,
    read_only: bool = False,
) -> Result:
    """The result of `work` with a pool of two connections.

    Args:
        store: How to reach the store.
        command: The command's name, for `pg_stat_activity`.
        work: What to do.
        read_only: It only reads, and may read the whole catalogue: a statement gets ten minutes.

    Raises:
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is another version's.
    """
    few = store.model_copy(update={"pool_min_size": 0, "pool_max_size": 2})
    if read_only:
        few = few.model_copy(update={"command_timeout": _PATIENT_SECONDS})
    async with await open_pool(few, application_name=f"mess-{command}", read_only=read_only) as pool:
        await require_schema(pool)
        return await work(pool)


async def with_generation(
    store: StoreSettings, command: str, work: Callable[[asyncpg.Pool], Awaitable[Result]], named: str | None
) -> Result:
    """The result of `work` with a pool that reads the tables of a generation, for which see `with_store`.

    Args:
        store: How to reach the catalogue's store.
        command: The command's name.
        work: What to do.
        named: The generation, such as `default/2`; None: the one that serves the space `default`.

    Raises:
        GenerationError: There is no such generation.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is another version's.
    """
    found = await with_store(store, command, lambda pool: find_generation(pool, named), read_only=True)
    return await with_store(store.of_schema(found.schema), command, work, read_only=True)


async def find_generation(pool: asyncpg.Pool, named: str | None) -> GenerationName:
    """The generation of a name, such as `default/2`; without one, that which serves the space `default`.

    Raises:
        GenerationError: There is none.
    """
    if named is None:
        return await generations.require_serving(pool)
    try:
        name = GenerationName.parse(named)
    except ValueError as error:
        raise GenerationError(str(error)) from None
    return (await generations.find_generation(pool, name)).name

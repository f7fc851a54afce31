"""Postgres and a broker without the rest, for tests and for work on one part.

    python -m mess.stack.devservices [--data-dir DIR] [--broker auto|kafka|tansu|none] [--no-postgres]

prints one line of JSON when both serve: `database_url`, `api_database_url`, `admin_url` (superuser),
`bootstrap_servers`, `broker`. It runs until Ctrl-C, SIGTERM, or, with `--until-eof`, the end of its input.
The database exists and is empty; no topics exist. Without `--data-dir` everything is thrown away at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

import orjson

from mess.stack.broker import BrokerChoice, prepare_broker
from mess.stack.errors import ServiceFailedError, StackError
from mess.stack.files import private_directory
from mess.stack.ports import PortBook
from mess.stack.postgres import EmbeddedPostgres
from mess.stack.supervisor import Supervisor


def main(arguments: list[str] | None = None) -> int:
    """Run the services until told to stop; returns the exit status."""
    options = _parse(arguments)
    with contextlib.ExitStack() as stack:
        directory = options.data_dir
        if directory is None:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="mess-services-"))
            directory = Path(temporary)
        private_directory(directory)
        try:
            asyncio.run(_serve(directory, options))
        except StackError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is its interface
            for line in error.log_tail if isinstance(error, ServiceFailedError) else []:
                print(f"  {line}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mess.stack.devservices")
    parser.add_argument("--data-dir", type=Path, help="keep the data here")
    parser.add_argument("--broker", default="auto", choices=[*BrokerChoice, "none"])
    parser.add_argument("--no-postgres", action="store_true")
    parser.add_argument("--volatile", action="store_true", help="no fsync: for tests")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args(arguments)


async def _serve(directory: Path, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor()
    try:
        facts = await _start(supervisor, directory, options)
        print(orjson.dumps(facts).decode(), flush=True)  # noqa: T201
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(supervisor.wait())]
        if options.until_eof:
            waits.append(asyncio.create_task(_end_of_input()))
        done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()
    finally:
        await supervisor.stop()


async def _start(supervisor: Supervisor, directory: Path, options: argparse.Namespace) -> dict[str, str]:
    ports = PortBook(directory / "ports.json")
    facts: dict[str, str] = {}
    starts = []
    postgres: EmbeddedPostgres | None = None
    if not options.no_postgres:
        postgres = EmbeddedPostgres(
            directory / "postgres",
            ports.get("postgres"),
            directory / "logs" / "postgres.log",
            durable=not options.volatile,
        )
        await asyncio.to_thread(postgres.prepare)
        starts.append(supervisor.start(postgres.service()))
        facts |= {
            "database_url": postgres.owner_url,
            "api_database_url": postgres.api_url,
            "admin_url": postgres.admin_url,
        }
    if options.broker != "none":
        broker = await asyncio.to_thread(
            prepare_broker,
            BrokerChoice(options.broker),
            directory,
            directory / "logs" / "broker.log",
            ports.get,
            lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
        )
        starts.append(supervisor.start(broker.service))
        facts |= {"bootstrap_servers": broker.bootstrap_servers, "broker": broker.kind}
    await asyncio.gather(*starts)
    if postgres is not None:
        await postgres.ensure_roles()
    return facts


async def _end_of_input() -> None:
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    sys.exit(main())

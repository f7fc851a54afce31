"""The API as a process of its own, and raw connections to it."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

SERVE = """
from serving.server import serve_api
from serving.settings import ServingSettings
from store.settings import StoreSettings
serve_api(ServingSettings(), StoreSettings())
"""


class Process:
    """A running API: where it listens, and every line it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, object]] = []

    async def line(self, event: str) -> dict[str, object]:
        """The next log line that says `event`; fails when the process ends without it."""
        assert self.process.stdout is not None
        while raw := await self.process.stdout.readline():
            self.lines.append(orjson.loads(raw))
            if str(self.lines[-1]["event"]).startswith(event):
                return self.lines[-1]
        raise AssertionError(f"ended without {event!r}: {self.lines}")

    async def url(self) -> str:
        """Where it listens, as it says itself."""
        said = str((await self.line("Uvicorn running on"))["event"])
        return next(word for word in said.split() if word.startswith("http://"))


@asynccontextmanager
async def running_api(
    url: str, *, files: int | None = None, servers: str | None = None, **environment: str
) -> AsyncIterator[Process]:
    """Run the API against the store at `url`.

    Args:
        url: Where the store is.
        files: How many files it may open; None for as many as this process.
        servers: Where the broker is; None for an API without one.
        environment: Further settings.
    """
    program = ["-c", SERVE] if servers is None else ["-m", "mess", "api"]
    if servers is not None:
        environment |= {"MESS_KAFKA_BOOTSTRAP_SERVERS": servers}
    limited = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    process = await asyncio.create_subprocess_exec(
        *limited,
        sys.executable,
        *program,
        env={**os.environ, "MESS_DATABASE_URL": url, "MESS_API_PORT": "0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The last part of a problem's type."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(orjson.loads(self.body)["type"]).rsplit(":", 1)[-1]


class Peer:
    """One raw connection, whose other end may be as slow or as wrong as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send some bytes."""
        self.writer.writelines(parts)
        await self.writer.drain()

    async def trickle(self, part: bytes, seconds: float = 0.2) -> None:
        """Send the same bytes again and again, until the other end has enough."""
        with contextlib.suppress(OSError):
            while not self._reader.at_eof():
                await self.send(part)
                await asyncio.sleep(seconds)

    async def reply(self) -> Reply:
        """The next answer."""
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body)

    async def ended(self) -> bytes:
        """Wait until the other end has closed or cut the connection; what it sent before."""
        async with asyncio.timeout(30):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(url: str, *, receives: int | None = None) -> AsyncIterator[Peer]:
    """A connection to the API at `url`; `receives` is how many bytes are accepted before they are read."""
    connection = socket.socket()
    if receives is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.setblocking(False)
    where = urlsplit(url)
    await asyncio.get_running_loop().sock_connect(connection, (where.hostname, where.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=receives or 2**16)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

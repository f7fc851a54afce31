"""A TCP gate in front of Postgres, to take it away and give it back."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.integration.serving.conftest import Database


class Gate:
    """Passes connections on while it is open; `silent` holds back what Postgres answers, `delay` does so for so many seconds."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._parts = parts
        self._target = (parts.hostname, parts.port)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.delay = 0.0

    def before(self, database: Database) -> Database:
        """`database` as it is seen through the gate."""
        credentials = self._parts.netloc.rpartition("@")[0]
        through = urlunsplit(self._parts._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))
        return Database(database.name, database.url, through)

    async def open(self) -> None:
        """Let connections in."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut every connection and let none in."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        if self._server is None or not self._server.is_serving():
            # Let in a moment before the gate was closed, which did not know of it yet.
            writer.close()
            back.close()
        with contextlib.suppress(OSError):
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer, answers=True))
        self._writers -= {writer, back}
        for side in (writer, back):
            side.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        while data := await reader.read(65536):
            if answers and self.delay:
                await asyncio.sleep(self.delay)
            if not (answers and self.silent):
                writer.write(data)
        writer.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

"""A filled database for each test, and the API over it, reached through ASGI without a socket."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.app import create_app
from serving.context import ApiContext
from serving.exchange import ContextExchange
from serving.kafka.broker import IngestLogEnds
from serving.settings import ServingSettings
from serving.spaces import Spaces
from store.settings import StoreSettings
from tests.integration.serving.catalogue import AWKWARD_IDS, ServedCatalogue, make_catalogue, write_catalogue
from tests.support.services import PostgresServer, unique_name

SIZE = 300


@dataclass(frozen=True)
class Database:
    """One filled database: `url` as its owner sees it, `api_url` as the API's role does."""

    name: str
    url: str
    api_url: str

    async def execute(self, statement: str, *arguments: object) -> None:
        """Change something as the owner."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()


@dataclass(frozen=True)
class Served:
    """What `serve` needs to start one application."""

    database: Database
    settings: ServingSettings = field(default_factory=lambda: ServingSettings(health_ttl=0))
    kafka: IngestLogEnds | None = None
    pool_max_size: int = 4
    kafka_options: dict[str, Any] | None = None


class ServedClient(httpx.AsyncClient):
    """A client of one running application, with what that application holds."""

    spaces: Spaces
    app: ASGIApp

    @property
    def exchange(self) -> ContextExchange:
        """That of the space `default`."""
        return self.spaces.default

    @property
    def context(self) -> ApiContext:
        """What a request that names no space gets now."""
        return self.exchange.current


@asynccontextmanager
async def serve(served: Served) -> AsyncIterator[ServedClient]:
    """Run the application's lifespan around a client that talks to it."""
    store = StoreSettings(database_url=served.database.api_url, pool_max_size=served.pool_max_size)  # type: ignore[arg-type]
    app = create_app(served.settings, store, served.kafka, kafka_options=served.kafka_options)
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with ServedClient(transport=transport, base_url="http://api") as client:
            client.spaces = (state or {})["spaces"]
            client.app = with_state
            yield client


@pytest.fixture(scope="session")
def catalogue() -> ServedCatalogue:
    """300 tracks, the awkward ids among them, with exact lists."""
    return make_catalogue(SIZE, ids=AWKWARD_IDS)


@pytest.fixture(scope="session")
def filled_template(
    postgres_server: PostgresServer, template_database: str, catalogue: ServedCatalogue
) -> str:
    """A database that holds the catalogue, to make others from; returns its name."""
    name = unique_name("filled").replace("-", "_")
    postgres_server.create_database(name, template_database)

    async def fill() -> None:
        connection = await asyncpg.connect(postgres_server.owner_url_of(name))
        try:
            await write_catalogue(connection, catalogue)
        finally:
            await connection.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, fill()).result()
    return name


@contextmanager
def filled_database(server: PostgresServer, template: str) -> Iterator[Database]:
    """A database that holds what `template` does, around a block."""
    name = unique_name("served").replace("-", "_")
    server.create_database(name, template)
    url = server.owner_url_of(name)
    yield Database(name, url, server.api_url_of(url))
    server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def database(postgres_server: PostgresServer, filled_template: str) -> Iterator[Database]:
    """An own database that holds the catalogue."""
    with filled_database(postgres_server, filled_template) as own:
        yield own


@pytest.fixture(scope="session")
def unchanging_database(postgres_server: PostgresServer, filled_template: str) -> Iterator[Database]:
    """A database that holds the catalogue, for tests whose only way to it is the API: its role changes nothing."""
    with filled_database(postgres_server, filled_template) as shared:
        yield shared


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """The API, which reads as its own role: over the test's own database, where it asks for one."""
    own = "database" in request.fixturenames
    database: Database = request.getfixturevalue("database" if own else "unchanging_database")
    async with serve(Served(database)) as running:
        yield running

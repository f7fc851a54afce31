"""The proxy's configuration with the real Caddy, in front of the real API."""

import asyncio
import collections
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

from serving.headers import SECURITY_HEADERS
from store.keys import new_key
from tests.integration.serving.conftest import (  # noqa: F401 -- fixtures
    Database,
    catalogue,
    database,
    filled_template,
)
from tests.integration.serving.process import Process, connected, running_api
from tests.support.polling import until

pytestmark = pytest.mark.integration

CONFIGURATION = Path(__file__).parents[3] / "docker" / "caddy"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Proxy:
    """A running Caddy: where it listens, and everything it has logged."""

    url: str
    log: Path

    def logged(self) -> str:
        """Its log so far."""
        return self.log.read_text()


async def _answers(url: str, path: str, *, any_status: bool = False) -> bool:
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=url) as client:
            return (await client.get(path)).status_code == 200 or any_status
    return False


@contextlib.asynccontextmanager
async def _proxy(tmp_path: Path, *upstreams: str) -> AsyncIterator[Proxy]:
    folder = tmp_path / "caddy"
    shutil.copytree(CONFIGURATION, folder)
    written = (folder / "Caddyfile").read_text()
    # As it is, but less patient.
    quick = written.replace("read_header 10s", "read_header 1s").replace("read_body 30s", "read_body 1s")
    assert quick != written
    if len(upstreams) == 1:
        quick = quick.replace("lb_try_duration 5s", "lb_try_duration 100ms")
    (folder / "Caddyfile").write_text(quick)
    url = f"http://127.0.0.1:{_free_port()}"
    environment = {
        "MESS_DOMAIN": url,
        "MESS_API_ADDRESSES": " ".join(upstream.removeprefix("http://") for upstream in upstreams),
        "MESS_CADDY_ADMIN": f"127.0.0.1:{_free_port()}",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "caddy",
            "run",
            "--config",
            folder / "Caddyfile",
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
    try:
        await until(lambda: _answers(url, "/health/live", any_status=True))
        yield Proxy(url, log)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def proxy(database: Database, tmp_path: Path) -> AsyncIterator[Proxy]:  # noqa: F811 -- the fixture
    """Caddy in front of the API."""
    async with (
        running_api(database.api_url, MESS_API_REQUIRE_KEYS="true") as running,
        _proxy(tmp_path, await running.url()) as caddy,
    ):
        yield caddy


def _secured(headers: httpx.Headers) -> None:
    for name, value in SECURITY_HEADERS:
        assert headers.get_list(name.decode()) == [value.decode()]
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert "server" not in headers


async def test_every_answer_is_guarded_and_every_refusal_a_problem(proxy: Proxy) -> None:
    """What the API answers, what it refuses, and what Caddy refuses by itself; a page keeps its own policy."""
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        for path, status in (
            ("/health/live", 200),
            ("/tracks", 401),
            ("/metrics", 404),
            ("/health/detailed", 404),
        ):
            answer = await client.get(path)
            assert answer.status_code == status
            _secured(answer.headers)
            if status != 200:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == status
        page = await client.get("/")
        assert "'self'" in page.headers["content-security-policy"]
        for length in (40_000, 60_000):
            too_long = await client.get(f"/docs/{'a' * length}")
            assert (too_long.status_code, too_long.json()["status"]) == (414, 414)


async def test_who_is_slow_to_ask_is_cut_off(proxy: Proxy) -> None:
    """Headers, bodies and silence have an end at Caddy, too."""
    async with connected(proxy.url) as head, connected(proxy.url) as body:
        await head.send(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        await body.send(
            b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\nx-api-key: x\r\n\r\n{"
        )
        trickling = [
            asyncio.create_task(each.trickle(part)) for each, part in ((head, b"a: b\r\n"), (body, b" "))
        ]
        await asyncio.gather(head.ended(), body.ended())
        await asyncio.gather(*trickling)


async def test_keys_are_not_logged(proxy: Proxy) -> None:
    """Neither from a header nor from a query string nor from a path, however it is written; the rest of a query is."""
    key = new_key()
    encoded = key.replace("_", "%5F")
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        for name in ("x-api-key", "authorization"):
            await client.get("/tracks?search=bach&limit=3", headers={name: key})
        for path in (f"/tracks?limit=1&api_key={key}", f"/tracks/{key}", f"/?a={encoded}", "/?token=another"):
            assert (await client.get(path)).status_code in (400, 401)
    await until(lambda: proxy.logged().count('"handled request"') >= 6)
    lines = [orjson.loads(line) for line in proxy.logged().splitlines() if "handled request" in line]
    assert "/tracks?search=bach&limit=3" in [line["request"]["uri"] for line in lines]
    assert not [part for part in (key, encoded, key[14:], "another") if part in proxy.logged()]


async def test_two_apis_are_replaced_without_a_failed_request(
    database: Database,  # noqa: F811 -- the fixture
    tmp_path: Path,
) -> None:
    """Each in turn stops and comes back, as deploy.sh has it; readers and askers, old connections and new, see 200 alone."""
    ports = [str(_free_port()) for _ in range(2)]
    answers: collections.Counter[int | str] = collections.Counter()
    batch = {"requests": [{"track_id": "bach/bwv66.6"}]}
    async with contextlib.AsyncExitStack() as stack:

        async def start(port: str) -> Process:
            # Nobody reads what it logs.
            api = await stack.enter_async_context(
                running_api(database.api_url, MESS_API_PORT=port, MESS_API_LOG_LEVEL="error")
            )
            await until(lambda: _answers(f"http://127.0.0.1:{port}", "/health/ready"))
            return api

        apis = {port: await start(port) for port in ports}
        caddy = await stack.enter_async_context(
            _proxy(tmp_path, *(f"http://127.0.0.1:{port}" for port in ports))
        )
        stopped = asyncio.Event()

        async def ask(address: str, *, anew: bool) -> None:
            transport = httpx.AsyncHTTPTransport(local_address=address)
            async with httpx.AsyncClient(base_url=caddy.url, transport=transport, timeout=20) as client:
                headers = {"connection": "close"} if anew else {}
                while not stopped.is_set():
                    for answer in (
                        await client.get("/tracks?limit=1", headers=headers),
                        await client.post("/recommend/batch", json=batch, headers=headers),
                    ):
                        answers[answer.status_code] += 1

        async with asyncio.TaskGroup() as group:
            # Callers of many addresses: each of the two has some of them.
            for number in range(2, 10):
                group.create_task(ask(f"127.0.0.{number}", anew=number % 2 == 0))
            for port in ports * 2:
                before = answers.total()
                await until(lambda before=before: answers.total() >= before + 100)  # type: ignore[misc]
                apis[port].process.terminate()
                assert await apis[port].process.wait() == 0
                before = answers.total()
                await until(lambda before=before: answers.total() >= before + 100)  # type: ignore[misc]
                apis[port] = await start(port)
            stopped.set()
    assert set(answers) == {200}


async def test_without_the_api_it_is_a_problem(tmp_path: Path) -> None:
    """While the API is away, callers get a problem document, too."""
    async with _proxy(tmp_path, f"http://127.0.0.1:{_free_port()}") as caddy:
        async with httpx.AsyncClient(base_url=caddy.url) as client:
            answer = await client.get("/tracks")
        assert answer.status_code in (502, 503)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        _secured(answer.headers)

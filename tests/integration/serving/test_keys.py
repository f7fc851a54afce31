"""Keys and rates against a real Postgres: made by the command, asked for by the API, which reads as its own role."""

import asyncio
import json
import re
from urllib.parse import quote

import httpx
import pytest
from typer.testing import CliRunner, Result

from mess.cli import build_cli
from serving.settings import ServingSettings
from store.keys import KeysUnreadableError
from tests.integration.serving.conftest import Database, Served, serve
from tests.support.polling import until

pytestmark = pytest.mark.integration


def mess(database: Database, *arguments: str) -> Result:
    """Run `mess keys` as the schema's owner."""
    return CliRunner().invoke(build_cli(), ["keys", *arguments], env={"MESS_DATABASE_URL": database.url})


async def make(database: Database, *arguments: str) -> str:
    """Make a key with the command; returns it."""
    result = await asyncio.to_thread(mess, database, "create", "someone", *arguments)
    assert result.exit_code == 0, result.output
    # The API of the same process may write its log meanwhile.
    (key,) = re.findall(r"^mess_\w+$", result.stdout, re.MULTILINE)
    return str(key)


def bearing(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {key}"}


def problem(answer: httpx.Response) -> str:
    """The last part of a problem's type."""
    return str(answer.json()["type"]).rsplit(":", 1)[-1]


def settings(**changes: object) -> ServingSettings:
    """An API that asks for keys and looks for changes often."""
    return ServingSettings(health_ttl=0, require_keys=True, key_refresh=0.05, **changes)  # type: ignore[arg-type]


async def test_a_key_opens_what_it_is_for_until_it_is_revoked(database: Database) -> None:
    """Without a key, with a wrong one or a revoked one nothing is read, not even what is in memory; probes need none."""
    key = await make(database)
    narrow = await make(database, "--scope", "read", "--expires", "1d")
    async with serve(Served(database, settings())) as api:
        first = (await api.get("/tracks?limit=1", headers=bearing(key))).json()["tracks"][0]["track_id"]
        path = f"/recommend/{quote(first, safe='')}"
        for _ in range(2):  # from the store, then from memory
            assert (await api.get(path, headers=bearing(key))).status_code == 200
        assert (await api.get(path, headers={"x-api-key": key})).status_code == 200

        bare = await api.get(path)
        assert (bare.status_code, problem(bare)) == (401, "key-missing")
        assert bare.headers["www-authenticate"] == 'Bearer realm="mess-ai"'
        assert bare.headers["x-request-id"]
        for wrong in (key[:-1] + ("0" if key[-1] != "0" else "1"), "nonsense", "é"):
            answer = await api.get(path, headers={"authorization": f"Bearer {wrong}".encode()})
            assert (answer.status_code, problem(answer)) == (401, "key-invalid")
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        refused = await api.get(path, headers=bearing(narrow))
        assert (refused.status_code, problem(refused)) == (403, "scope-missing")
        assert 'scope="recommend"' in refused.headers["www-authenticate"]
        assert (await api.get("/composers", headers=bearing(narrow))).status_code == 200
        for open_path in (
            "/health/live",
            "/health/ready",
            "/metrics",
            "/docs",
            "/page/icon.svg",
            "/openapi.json",
        ):
            assert (await api.get(open_path)).status_code == 200

        revoked = await asyncio.to_thread(mess, database, "revoke", key[5:13], "--yes")
        assert "is revoked" in revoked.stdout
        await until(lambda: _status(api, path, key, 401))
        later = await make(database)
        await until(lambda: _status(api, path, later, 200))


async def _status(api: httpx.AsyncClient, path: str, key: str, wanted: int) -> bool:
    return (await api.get(path, headers=bearing(key))).status_code == wanted


async def test_over_the_rate_is_429_with_the_time_to_wait(database: Database) -> None:
    """A key has its own rate, an address without one another; preflights and refusals are told to other origins."""
    slow = await make(database, "--rate", "2/hour")
    usual = await make(database)
    origin = {"origin": "https://example.org"}
    changes = {"address_rate_limit": "1/hour", "cors_origins": ("https://example.org",)}
    async with serve(Served(database, settings(**changes))) as api:
        answers = [await api.get("/composers", headers=bearing(slow)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"default";q=2;w=3600'
        assert answers[0].headers["ratelimit"].startswith('"default";r=1;')
        assert problem(answers[2]) == "too-many-requests"
        assert 1700 < int(answers[2].headers["retry-after"]) <= 1800
        assert (await api.get("/composers", headers=bearing(usual))).status_code == 200
        statuses = [(await api.get("/composers", headers=origin)).status_code for _ in range(2)]
        assert statuses == [401, 429]
        last = await api.get("/composers", headers=origin)
        assert last.headers["access-control-allow-origin"] == "https://example.org"
        asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
        preflight = await api.options("/composers", headers=origin | asked)
        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        metrics = (await api.get("/metrics")).text
        assert f'mess_api_key_requests_total{{key="{slow[5:13]}"}} 2.0' in metrics
        assert 'mess_api_refused_total{why="too-many-requests"} 3.0' in metrics


async def test_a_role_that_may_not_read_keys_is_said_so(database: Database) -> None:
    """Where keys are required and cannot be read, the API does not start, and one line says what to do."""
    await database.execute("REVOKE SELECT ON api_keys FROM mess_api")
    with pytest.raises(KeysUnreadableError, match="mess roles grant"):
        async with serve(Served(database, settings())):
            pass


def test_keys_are_listed_without_their_secrets_and_mistakes_are_one_line(database: Database) -> None:
    """The list has every key with its state; what cannot be made or revoked is refused in a line."""
    key = mess(database, "create", "first", "--rate", "5/second", "--expires", "2h").stdout.strip()
    mess(database, "create", "second", "--scope", "recommend")
    mess(database, "revoke", key, "--yes")
    shown = mess(database, "list", "--json").stdout
    first, second = (json.loads(line) for line in shown.splitlines())
    assert (first["prefix"], first["state"], first["rate"]) == (key[5:13], "revoked", "5/second")
    assert (second["state"], second["scopes"]) == ("usable", ["recommend"])
    assert key[14:] not in shown + mess(database, "list").stdout
    for arguments, line in (
        (("create", "x", "--rate", "fast"), "is no rate"),
        (("create", "x", "--scope", "write"), "no scope 'write'"),
        (("create", "x", "--expires", "2001-01-01"), "not to come"),
        (("create", " "), "printable characters"),
        (("revoke", "00000000", "--yes"), "there is no key '00000000'"),
        (("revoke", "00000000"), "--yes"),
    ):
        result = mess(database, *arguments)
        assert result.exit_code == 2
        assert line in result.output
    denied = CliRunner().invoke(
        build_cli(), ["keys", "create", "x"], env={"MESS_DATABASE_URL": database.api_url}
    )
    assert "must be the schema owner's" in denied.output


async def test_a_key_in_a_url_is_refused(database: Database) -> None:
    """Wherever it stands and whatever its parameter is called, also for probes, also beside a good header."""
    key = await make(database)
    encoded = key.replace("_", "%5F").replace("m", "%6d", 1)
    async with serve(Served(database, settings())) as api:
        for query in (f"api_key={key}", f"limit=1&x={encoded}", "access_token=another", "KEY=1", f"{key}"):
            for path in ("/tracks", "/recommend/a", "/metrics", "/health/ready", "/"):
                answer = await api.get(f"{path}?{query}", headers=bearing(key))
                assert (answer.status_code, problem(answer)) == (400, "key-in-url")
                assert key not in answer.text
        assert (await api.get("/tracks?key_signature=C", headers=bearing(key))).status_code == 422
        assert (await api.get("/recommend/a?extra.key=C", headers=bearing(key))).status_code == 503

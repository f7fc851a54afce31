"""Who is let through, and what others are told: access control around an application that only notes."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from serving.access import AccessControl, ProblemResponder
from serving.metrics import ApiMetrics
from serving.rates import RequestRate
from store.keys import ApiKey, digest_of, new_key, prefix_of

pytestmark = pytest.mark.unit

KEY, OTHER = new_key(), new_key()


class OneKey:
    """A ring with one key, which may read."""

    def __init__(self, scopes: frozenset[str] = frozenset({"read"}), rate: RequestRate | None = None) -> None:
        prefix = prefix_of(KEY)
        assert prefix is not None
        self._key = ApiKey(prefix, digest_of(KEY), "a name", scopes, None, datetime.now(UTC), None, None)
        self._rate = rate

    def __len__(self) -> int:
        return 1

    def check(self, presented: str) -> ApiKey | None:
        return self._key if presented == KEY else None

    def rate_of(self, _: ApiKey) -> RequestRate | None:
        return self._rate


class Guarded:
    """An application behind access control, and what it served."""

    def __init__(self, keys: OneKey | None = None, **rates: RequestRate | None) -> None:
        self.served: list[str] = []
        self.metrics = ApiMetrics()
        ring: Any = keys
        limits = {"key_rate": None, "address_rate": None} | rates
        self._control = AccessControl(
            self._app, refuse=ProblemResponder(), keys=ring, metrics=self.metrics, **limits
        )

    async def _app(self, scope: Any, _: Any, send: Any) -> None:
        self.served.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def get(
        self, path: str, *, method: str = "GET", query: str = "", client: str = "192.0.2.1", **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """Status, last part of the problem's type, and headers of an answer."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": (client, 1),
        }
        await self._control(scope, receive, send)
        start, body = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
        kind = orjson.loads(body).get("type", "").rpartition(":")[2]
        return start["status"], kind, {name.decode(): value.decode() for name, value in start["headers"]}

    def refused(self, why: str) -> float | None:
        """How many were refused for that."""
        return self.metrics.registry.get_sample_value("mess_api_refused_total", {"why": why})


async def test_a_key_opens_what_its_scopes_cover() -> None:
    """In either header; without one, with another, or for another scope the answer says which it is."""
    guarded = Guarded(OneKey())
    assert (await guarded.get("/tracks", authorization=f"Bearer {KEY}"))[0] == 200
    assert (await guarded.get("/tracks", x_api_key=KEY))[0] == 200
    missing = await guarded.get("/tracks")
    assert missing[:2] == (401, "key-missing")
    assert "error" not in missing[2]["www-authenticate"]
    invalid = await guarded.get("/tracks", authorization=f"Bearer {OTHER}")
    assert invalid[:2] == (401, "key-invalid")
    assert 'error="invalid_token"' in invalid[2]["www-authenticate"]
    for path in ("/recommend/a", "/explain"):
        assert (await guarded.get(path, x_api_key=KEY))[:2] == (403, "scope-missing")
    assert guarded.served == ["/tracks", "/tracks"]
    assert [guarded.refused(why) for why in ("key-missing", "key-invalid", "scope-missing")] == [1, 1, 2]


@pytest.mark.parametrize("path", ["/health/ready", "/metrics", "/", "/docs", "/docs/x.js", "/page/x.css"])
async def test_probes_and_pages_need_no_key(path: str) -> None:
    """Nor does OPTIONS, with which browsers send none."""
    guarded = Guarded(OneKey())
    assert (await guarded.get(path))[0] == 200
    assert (await guarded.get("/tracks", method="OPTIONS"))[0] == 200


@pytest.mark.parametrize("path", ["/tracks", "/health/ready"])
async def test_a_key_in_the_url_is_refused_wherever_it_comes(path: str) -> None:
    """Valid or not: it is in logs by now."""
    guarded = Guarded(OneKey())
    status, kind, headers = await guarded.get(path, query=f"key={KEY}", x_api_key=KEY)
    assert (status, kind, headers["cache-control"]) == (400, "key-in-url", "no-store")
    assert guarded.served == []


async def test_rates_count_by_key_or_else_by_address() -> None:
    """Those with a key by its own rate or the usual one; those without by their address, whether refused or not."""
    usual, own, address = RequestRate(3, 3_600), RequestRate(1, 3_600), RequestRate(2, 3_600)
    guarded = Guarded(OneKey(), key_rate=usual, address_rate=address)
    assert [(await guarded.get("/tracks", x_api_key=KEY))[0] for _ in range(4)] == [200, 200, 200, 429]
    guesses = [(await guarded.get("/tracks", x_api_key=OTHER))[:2] for _ in range(3)]
    assert guesses == [(401, "key-invalid"), (401, "key-invalid"), (429, "too-many-requests")]
    assert (await guarded.get("/tracks", client="192.0.2.2"))[0] == 401
    strict = Guarded(OneKey(rate=own), key_rate=usual)
    assert [(await strict.get("/tracks", x_api_key=KEY))[0] for _ in range(2)] == [200, 429]


async def test_answers_tell_what_is_left_of_a_rate() -> None:
    """Those let through and those refused, which also say when to come again."""
    guarded = Guarded(address_rate=RequestRate(1, 3_600))
    first = (await guarded.get("/tracks"))[2]
    assert "ratelimit" in first
    status, _, headers = await guarded.get("/tracks")
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= 3_600
    assert headers["ratelimit-policy"] == first["ratelimit-policy"]

"""Health, metrics, limits, methods, and what callers get while the store or the broker is away."""

import asyncio
import gc
import re
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from serving import models
from serving.app import create_app
from serving.kafka.broker import BrokerUnavailableError, KafkaLogEnds, start_client, stop_client
from serving.recommend.questions import RecommendQuery
from serving.routes.pages import page_files
from serving.settings import ServingSettings
from store.columns import REVISION
from store.errors import SchemaMismatchError, StoreUnavailableError
from store.settings import StoreSettings
from streams.contracts import UserContext
from tests.integration.serving.conftest import SIZE, Database, Served, serve
from tests.integration.serving.gate import Gate
from tests.integration.serving.problems import problem_of
from tests.support.polling import until
from tests.support.services import KafkaBroker, unique_name

pytestmark = pytest.mark.integration

PATH = "/recommend/test%2F00123"


async def _checks(client: httpx.AsyncClient, status: int = 200) -> dict[str, Any]:
    response = await client.get("/health/detailed")
    assert response.status_code == status, response.text
    models.HealthReport.model_validate(response.json())
    checks: dict[str, Any] = response.json()["checks"]
    return checks


async def _start(url: str) -> None:
    """Start an application over the database at `url`, and stop it."""
    app = create_app(ServingSettings(), StoreSettings(database_url=url))  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        pass


class TestStart:
    """What an application refuses to start on."""

    async def test_refuses_a_stale_schema(self, database: Database) -> None:
        """An older schema stops the start with both revisions and the remedy."""
        await database.execute("UPDATE alembic_version SET version_num = '0000'")
        with pytest.raises(SchemaMismatchError, match=f"is at revision 0000.*needs {REVISION}.*mess migrate"):
            await _start(database.api_url)

    async def test_refuses_an_empty_database(self, empty_database_url: str) -> None:
        """A database without a schema stops the start."""
        with pytest.raises(SchemaMismatchError, match="has no schema"):
            await _start(empty_database_url)

    async def test_refuses_to_start_without_postgres(self) -> None:
        """No Postgres, no start: the store's own error says so."""
        with pytest.raises(StoreUnavailableError):
            await _start("postgresql://mess@127.0.0.1:1/mess")


class TestHealth:
    """`/health` and its kin."""

    async def test_all_is_well_without_a_broker(self, client: httpx.AsyncClient) -> None:
        """Every path says ok over a full catalogue; what isn't configured is unknown and harms nothing."""
        for path in ("/health", "/health/live", "/health/ready", "/health/detailed"):
            response = await client.get(path)
            assert (response.status_code, response.json()["status"]) == (200, "ok")
            assert response.headers["cache-control"] == "no-store"
        checks = await _checks(client)
        assert checks["catalogue"]["tracks"] == SIZE
        assert checks["catalogue"]["dimension"] == 32
        assert (checks["lists"]["lists"], checks["lists"]["full_lists"]) == (SIZE, SIZE)
        assert checks["migrations"]["revision"] == REVISION
        assert checks["broker"]["status"] == checks["consumer_lag"]["status"] == "unknown"

    async def test_probes_may_add_parameters(self, client: httpx.AsyncClient) -> None:
        """Health and metrics ignore query parameters, as probes and scrapers add their own."""
        for path in ("/health/ready?probe=1", "/metrics?x=1"):
            assert (await client.get(path)).status_code == 200

    async def test_missing_lists_degrade(self, client: httpx.AsyncClient, database: Database) -> None:
        """Lists that are missing or short make health degraded, which still answers 200."""
        await database.execute(
            "DELETE FROM neighbour_lists WHERE key IN (SELECT key FROM neighbour_lists LIMIT 3)"
        )
        await database.execute(
            "UPDATE neighbour_lists SET neighbours = neighbours[:49], scores = scores[:49]"
            " WHERE key IN (SELECT key FROM neighbour_lists LIMIT 1)"
        )
        checks = await _checks(client)
        assert checks["lists"]["status"] == "degraded"
        assert (checks["lists"]["lists"], checks["lists"]["full_lists"]) == (SIZE - 3, SIZE - 4)
        assert (await client.get("/health/detailed")).json()["status"] == "degraded"
        assert (await client.get("/health/ready")).json()["status"] == "ok"

    async def test_small_catalogue_is_whole_with_short_lists(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        """With n tracks, a list of n - 1 is full."""
        await database.execute(
            "DELETE FROM tracks WHERE track_id NOT IN (SELECT track_id FROM tracks LIMIT 4)"
        )
        await database.execute("DELETE FROM neighbour_lists WHERE key NOT IN (SELECT key FROM tracks)")
        await database.execute("UPDATE neighbour_lists SET neighbours = neighbours[:3], scores = scores[:3]")
        checks = await _checks(client)
        assert checks["lists"] == {
            "status": "ok",
            "detail": "4 of 4 lists are full",
            "lists": 4,
            "full_lists": 4,
        }

    async def test_schema_that_moved_on_is_down(self, client: httpx.AsyncClient, database: Database) -> None:
        """A migration under a running application makes it not ready."""
        await database.execute("UPDATE alembic_version SET version_num = '9999'")
        checks = await _checks(client, 503)
        assert (checks["migrations"]["status"], checks["migrations"]["revision"]) == ("down", "9999")
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200


class TestStoreAway:
    """While Postgres cannot be reached, or does not answer."""

    async def test_reads_are_503_and_recover(self, database: Database) -> None:
        """Reads get a 503 to retry, or what memory holds, marked stale; health is down; all recover with the database."""
        async with Gate(database.api_url) as gate, serve(Served(gate.before(database))) as client:
            assert (await client.get(PATH)).status_code == 200
            await gate.close()
            for path in (f"{PATH}?top_k=9", "/tracks", "/tracks/a+b", "/composers", "/tags"):
                response = await client.get(path)
                problem_of(response, 503, "store-unavailable")
                assert int(response.headers["retry-after"]) > 0
                assert "Traceback" not in response.text
            checks = await _checks(client, 503)
            assert (checks["database"]["status"], checks["lists"]["status"]) == ("down", "unknown")
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/health/live")).status_code == 200

            async def stale() -> bool:
                remembered = (await client.get(PATH)).json()
                assert remembered["cached"]
                return bool(remembered["stale"])

            await until(stale)  # memory learns of it at its next look at the store
            await gate.open()
            assert (await client.get(PATH)).status_code == 200
            assert (await client.get("/health/ready")).status_code == 200

    async def test_silence_is_cut_short(self, database: Database) -> None:
        """A database that stops answering costs a caller the store timeout, not forever."""
        settings = ServingSettings(store_timeout=0.3)
        async with Gate(database.api_url) as gate, serve(Served(gate.before(database), settings)) as client:
            assert (await client.get(PATH)).status_code == 200
            gate.silent = True
            problem_of(await client.get(f"{PATH}?top_k=9"), 503, "store-unavailable")
            gate.silent = False
            assert (await client.get(f"{PATH}?top_k=9")).status_code == 200

    async def test_waiting_for_a_connection_is_cut_short(self, database: Database) -> None:
        """When every connection is taken, callers and probes get a 503, they don't hang."""
        served = Served(database, ServingSettings(store_timeout=0.3), pool_max_size=1)
        async with serve(served) as client, client.context.pool.acquire():
            problem_of(await client.get(PATH), 503, "store-unavailable")
            for path in ("/health/ready", "/health/detailed"):
                response = await client.get(path)
                assert (response.status_code, response.json()["status"]) == (503, "down")

    async def test_more_callers_than_connections_wait_their_turn(self, database: Database) -> None:
        """Callers beyond the pool's size are answered too, one after the other."""
        async with serve(Served(database, pool_max_size=2)) as client:
            responses = await asyncio.gather(*(client.get(PATH) for _ in range(50)))
        assert {response.status_code for response in responses} == {200}


class TestBroker:
    """Lag and broker in `/health/detailed`, against a real broker."""

    async def test_lag_is_what_the_store_has_not_consumed(
        self, database: Database, kafka_broker: KafkaBroker
    ) -> None:
        """Lag is the log's end less the consumed offset, by partition and in sum, and can degrade health."""
        topic = unique_name("ingest")
        await _fill_topic(kafka_broker, topic, {0: 5, 1: 3})
        await database.execute(
            "UPDATE ingest_partitions SET consumed_offset = CASE partition WHEN 0 THEN 4 ELSE 3 END"
        )
        settings = ServingSettings(health_ttl=0, ingest_topic=topic, lag_degraded=0)
        ends = KafkaLogEnds({"bootstrap_servers": kafka_broker.bootstrap_servers}, timeout=15)
        async with serve(Served(database, settings, ends)) as client:
            checks = await _checks(client)
            assert (checks["broker"]["status"], checks["broker"]["partitions"]) == ("ok", 2)
            assert checks["consumer_lag"]["partitions"] == {"0": 1, "1": 0}
            assert (checks["consumer_lag"]["lag"], checks["consumer_lag"]["status"]) == (1, "degraded")
            await database.execute("UPDATE ingest_partitions SET consumed_offset = 5")
            checks = await _checks(client)
            assert (checks["consumer_lag"]["lag"], checks["consumer_lag"]["status"]) == (0, "ok")

    async def test_missing_topic_is_told(self, database: Database, kafka_broker: KafkaBroker) -> None:
        """A broker without the ingest topic degrades health by name, and asking does not create it."""
        topic = unique_name("absent")
        ends = KafkaLogEnds({"bootstrap_servers": kafka_broker.bootstrap_servers}, timeout=15)
        settings = ServingSettings(health_ttl=0, ingest_topic=topic)
        async with serve(Served(database, settings, ends)) as client:
            for _ in range(2):
                checks = await _checks(client)
                assert checks["broker"]["status"] == "degraded"
                assert topic in checks["broker"]["detail"]

    async def test_a_client_cancelled_while_it_connects_leaves_nothing_open(
        self, kafka_broker: KafkaBroker
    ) -> None:
        """At whichever moment of its start a client is cancelled, no connection of it is left behind."""
        cancelled = 0
        for moment in range(20):
            producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers)
            starting = asyncio.create_task(start_client(producer))
            await asyncio.sleep(moment / 2_000)
            cancelled += starting.cancel()
            await asyncio.wait({starting})
            await stop_client(producer)
            del starting, producer
            # What is left open warns when it is collected, and a warning is a failure.
            gc.collect()
        assert cancelled

    async def test_reads_go_on_without_the_broker(self, database: Database) -> None:
        """No broker: health is degraded and says why, reads are answered."""
        ends = KafkaLogEnds({"bootstrap_servers": "127.0.0.1:1"}, timeout=2)
        async with serve(Served(database, kafka=ends)) as client:
            response = await client.get("/health/detailed")
            assert (response.status_code, response.json()["status"]) == (200, "degraded")
            checks = response.json()["checks"]
            assert (checks["broker"]["status"], checks["consumer_lag"]["status"]) == ("degraded", "unknown")
            assert (await client.get(PATH)).status_code == 200

    async def test_broker_that_says_nothing_is_given_up(self) -> None:
        """A broker that accepts and never answers costs a health report its timeout, not forever."""
        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ends = KafkaLogEnds({"bootstrap_servers": f"127.0.0.1:{port}"}, timeout=0.2)
        with pytest.raises(BrokerUnavailableError):
            await ends.end_offsets("track-ingest")
        await ends.close()
        assert held
        for writer in held:
            writer.close()
        server.close()


async def _fill_topic(broker: KafkaBroker, topic: str, messages: dict[int, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, len(messages), 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    await producer.start()
    try:
        for partition, count in messages.items():
            for _ in range(count):
                await producer.send_and_wait(topic, b"{}", partition=partition)
    finally:
        await producer.stop()


class TestMetrics:
    """`/metrics`."""

    async def test_requests_are_counted_by_template(self, client: httpx.AsyncClient) -> None:
        """Requests count under their route template, method and status; made-up paths under one label."""
        for path in (
            "/recommend/a+b",
            "/recommend/a%2Fb%2Fc",
            "/recommend/none",
            "/x1",
            "/x2",
            "/tracks/a+b",
        ):
            await client.get(path)
        await client.head("/recommend/a+b")
        await client.request("BREW", "/tracks")
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        counts = _samples(response.text, "mess_api_requests_total", "route", "method", "status")
        assert counts == {
            ("/recommend/{track_id}", "GET", "200"): 2,
            ("/recommend/{track_id}", "GET", "404"): 1,
            ("/recommend/{track_id}", "HEAD", "200"): 1,
            ("/tracks/{track_id}", "GET", "200"): 1,
            ("/tracks", "other", "405"): 1,
            ("unmatched", "GET", "404"): 2,
        }
        seconds = _samples(response.text, "mess_api_request_seconds_count", "route", "method")
        assert seconds["/recommend/{track_id}", "GET"] == 3
        assert _samples(response.text, "mess_api_requests_in_progress") == {(): 1}
        assert _samples(response.text, "mess_api_store_connections", "state")[("open",)] >= 1

    async def test_applications_count_for_themselves(self, database: Database) -> None:
        """Two applications in one process have metrics of their own."""
        async with serve(Served(database)) as one, serve(Served(database)) as other:
            await one.get("/strategies")
            text = (await other.get("/metrics")).text
        assert _samples(text, "mess_api_requests_total", "route") == {}


def _samples(text: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


class TestHttp:
    """Methods, limits and headers."""

    @pytest.mark.parametrize(
        "path", ["/nothing", "/", "/recommendations", "/tracks/", "/docs/../x", "/openapi.yaml"]
    )
    async def test_unknown_paths_are_problems(self, client: httpx.AsyncClient, path: str) -> None:
        """A path that isn't there is a 404 problem; `/` is a page."""
        response = await client.get(path)
        if path == "/":
            assert response.status_code == 200
        elif path == "/tracks/":
            problem_of(response, 422, "invalid-parameters")
        else:
            problem_of(response, 404, "path-not-found")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("path", ["/tracks", PATH, "/health"])
    async def test_wrong_method(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        """A method that a path doesn't take is a 405 problem with Allow."""
        response = await client.request(method, path)
        problem_of(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"

    async def test_options_names_the_methods(self, client: httpx.AsyncClient) -> None:
        """OPTIONS says what a path takes."""
        response = await client.options(PATH)
        assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")

    async def test_head_is_get_without_the_body(self, client: httpx.AsyncClient) -> None:
        """HEAD has the status and headers of GET, and no body."""
        got, headed = await client.get("/tracks?limit=3"), await client.head("/tracks?limit=3")
        assert (headed.status_code, headed.content) == (200, b"")
        assert headed.headers["content-length"] == got.headers["content-length"]
        assert (await client.head("/recommend/none")).status_code == 404

    async def test_large_body_is_refused(self, client: httpx.AsyncClient) -> None:
        """A body over the limit is a 413 problem, on any path."""
        body = b"x" * (1024 * 1024 + 1)
        problem_of(await client.post("/recommend", content=body), 413, "body-too-large")
        assert (await client.post("/recommend", content=body[:-1])).status_code != 413

    async def test_long_url_is_refused(self, client: httpx.AsyncClient) -> None:
        """A URL over the limit is a 414 problem."""
        response = await client.get("/tracks", params={"search": "x" * 40_000})
        problem_of(response, 414, "url-too-long")

    async def test_request_id_is_kept_or_made(self, client: httpx.AsyncClient) -> None:
        """A harmless X-Request-ID comes back; a missing, long or odd one is replaced."""
        kept = await client.get("/tracks", headers={"x-request-id": "abc-1.2_3:4"})
        assert kept.headers["x-request-id"] == "abc-1.2_3:4"
        for bad in ("", "a b", "x" * 129, "a{}", "\xe9"):
            response = await client.get("/nothing", headers={"x-request-id": bad.encode("latin-1")})
            assert response.headers["x-request-id"] != bad
            assert len(response.headers["x-request-id"]) == 32

    async def test_cors_is_off_unless_configured(self, database: Database) -> None:
        """Pages of configured origins alone may read answers, errors included."""
        asking = {"origin": "https://music.example"}
        async with serve(Served(database)) as client:
            response = await client.get("/tracks", headers=asking)
            assert "access-control-allow-origin" not in response.headers
        settings = ServingSettings(cors_origins="https://music.example, https://other.example")  # type: ignore[arg-type]
        async with serve(Served(database, settings)) as client:
            for path in ("/tracks", "/nothing"):
                response = await client.get(path, headers=asking)
                assert response.headers["access-control-allow-origin"] == "https://music.example"
            response = await client.get("/tracks", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in response.headers
            preflight = await client.options(
                "/tracks", headers={**asking, "access-control-request-method": "GET"}
            )
            assert preflight.headers["access-control-allow-origin"] == "https://music.example"


class TestPages:
    """The pages for people, and the reference they are made from."""

    async def test_openapi_describes_the_paths(self, client: httpx.AsyncClient) -> None:
        """The document has every path of the API with its parameters, and problems for their errors."""
        document = (await client.get("/openapi.json")).json()
        assert set(document["paths"]) == {
            "/recommend/{track_id}",
            "/recommend/{track_id}/compare",
            "/recommend/{track_id}/stream",
            "/recommend",
            "/recommend/batch",
            "/explain",
            "/changes",
            "/incipits",
            "/map",
            "/tracks",
            "/tracks/{track_id}",
            "/tracks/{track_id}/metadata",
            "/composers",
            "/tags",
            "/strategies",
            "/spaces",
            "/health",
            "/health/live",
            "/health/ready",
            "/health/detailed",
            "/metrics",
        }
        recommend = document["paths"]["/recommend/{track_id}"]["get"]
        names = {parameter["name"] for parameter in recommend["parameters"]}
        context = {f"user_context.{name}" for name in UserContext.model_fields}
        offered = (await client.get("/strategies")).json()["strategies"]
        of_strategies = {f"parameters.{each['name']}" for told in offered for each in told["parameters"]}
        assert names == {"track_id", *RecommendQuery.model_fields, *context, *of_strategies}
        assert "application/problem+json" in recommend["responses"]["422"]["content"]
        assert "HTTPValidationError" not in str(document)

    async def test_every_reference_in_openapi_resolves(self, client: httpx.AsyncClient) -> None:
        """No schema is referred to that isn't there."""
        text = (await client.get("/openapi.json")).text
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert referred <= set(schemas)

    @pytest.mark.parametrize("path", ["/", "/docs"])
    async def test_pages_load_nothing_from_elsewhere(self, client: httpx.AsyncClient, path: str) -> None:
        """Pages refer to this server alone, and tell the browser to hold them to it."""
        response = await client.get(path)
        assert response.headers["content-type"].startswith("text/html")
        policy = response.headers["content-security-policy"]
        assert policy.startswith(("default-src 'self'", "default-src 'none'"))
        text = response.text.replace("http://www.w3.org/2000/svg", "")  # a namespace, never fetched
        assert "http://" not in text
        assert "https://" not in text
        assert 'src="//' not in text

    async def test_page_has_nothing_inline_and_all_its_files(self, client: httpx.AsyncClient) -> None:
        """The page's scripts and styles are files, all named in it, small, and sent anew only when they are others."""
        response = await client.get("/")
        assert "unsafe" not in response.headers["content-security-policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", response.text)
        named = set(re.findall(r'(?:href|src)="page/([^"]+)"', response.text))
        late = {
            f"scripts/{name}"
            for name in ("map.js", "map-data.js", "map-canvas.js", "live.js")
            if f"scripts/{name}" in page_files()
        }
        assert set(page_files()) - late <= named <= set(page_files())
        sent = len(response.content)
        for name, file in page_files().items():
            answer = await client.get(f"/page/{name}")
            assert answer.headers["content-type"].startswith(file.media_type)
            sent += len(answer.content)
            again = await client.get(f"/page/{name}", headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert sent < 150_000
        problem_of(await client.get("/page/index.html"), 404, "path-not-found")

    async def test_reference_has_its_script_and_style(self, client: httpx.AsyncClient) -> None:
        """The files that `/docs` names are served; others beside them are not."""
        page = (await client.get("/docs")).text
        for name, kind in (("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")):
            assert f'"/docs/{name}"' in page
            response = await client.get(f"/docs/{name}")
            assert response.headers["content-type"].startswith(kind)
            assert len(response.content) > 10_000
        problem_of(await client.get("/docs/__init__.py"), 404, "path-not-found")

"""What the store cannot answer, asked over HTTP of a worker in a nutshell."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from serving.models import BatchResponse, RecommendationBody
from serving.recommend.response_cache import ANY
from serving.settings import ServingSettings
from streams.contracts import RecommendationRequest, parse_request
from tests.integration.serving.asking import AnsweringServer, answering, body_of
from tests.integration.serving.catalogue import ServedCatalogue
from tests.integration.serving.conftest import Database, Served, ServedClient, serve
from tests.integration.serving.problems import fields_of, problem_of
from tests.support.polling import until

pytestmark = pytest.mark.integration

TRACK = "test/00123"
PATH = "/recommend/test%2F00123"
SEEDS = {"seeds": ["test/00123", {"track_id": "test/00124", "weight": 2.0}]}


def _count(client: ServedClient, name: str, **labels: str) -> float:
    return client.context.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def api(database: Database) -> AsyncIterator[tuple[ServedClient, AnsweringServer]]:
    """The API, without a broker, and the one worker that there is."""
    settings = ServingSettings(health_ttl=0, request_timeout=3.0, min_offset_wait=0.5)
    async with answering(database) as worker, serve(Served(database, settings)) as client:
        yield client, worker


async def test_questions_go_to_the_workers_and_back(api: tuple[ServedClient, AnsweringServer]) -> None:
    """What is asked reaches a worker by the contract of requests, and the reply is the answer, byte for byte its body."""
    client, worker = api
    asked = SEEDS | {"strategy": "complementary", "filters": {"era": {"not": "Romantic"}}, "top_k": 5}
    response = await client.post("/recommend", json=asked)
    assert response.status_code == 200
    RecommendationBody.model_validate(response.json())
    assert (response.json()["cached"], response.json()["computation_time_ms"]) == (False, 1.5)
    assert response.headers["cache-control"] == "no-store"
    (request,) = worker.requests
    parsed = RecommendationRequest.model_validate(request)
    assert parsed.canonical == ("diverse", "cluster")
    assert {key: request[key] for key in ("filters", "top_k")} == {
        "filters": {"era": {"not": "Romantic"}},
        "top_k": 5,
    }
    # Every parameter of a URL, too, and explanations, and comparisons.
    await client.get(
        f"{PATH}?tags=a&tags_all=b&year_composed_min=1700&max_per_album=1&parameters.lambda=0.5&mode=mmr&strategy=diverse"
    )
    await client.get(f"/explain?seed={TRACK}&candidate=test/00124&strategy=popular")
    await client.get(f"{PATH}/compare?top_k=7")
    url, explained, compared = (parse_request(None, orjson.dumps(each)) for each in worker.requests[1:])
    assert url.wanted_filters() == {"tags": {"any": ["a"], "all": ["b"]}, "year_composed": {"min": 1700.0}}
    assert (url.caps.album, url.parameters) == (1, {"lambda": 0.5})
    assert (explained.track_id, explained.candidate, explained.strategy) == (TRACK, "test/00124", "popular")
    assert (compared.compare, compared.top_k) == (True, 7)


async def test_questions_alike_share_a_request(api: tuple[ServedClient, AnsweringServer]) -> None:
    """Of ten at the same time one is asked, however it was written; each gets the answer."""
    client, worker = api
    first = {"seeds": [TRACK], "top_k": 10, "strategy": "random"}
    second = {"strategy": "random", "seeds": [{"weight": 1, "track_id": TRACK}]}
    responses = await asyncio.gather(
        *(client.post("/recommend", json=asked) for asked in [first, second] * 5)
    )
    assert [response.status_code for response in responses] == [200] * 10
    assert len(worker.requests) == 1
    assert _count(client, "mess_api_worker_requests_shared_total") == 9


async def test_an_answer_is_at_hand_before_it_has_been_written(
    api: tuple[ServedClient, AnsweringServer], database: Database
) -> None:
    """Asked again at once, nobody computes it again, and it says that it was kept; when a list has moved it is asked anew."""
    client, worker = api
    path = f"{PATH}?strategy=popular"
    first, second = await client.get(path), await client.get(path)
    assert (first.json()["cached"], second.json()["cached"], len(worker.requests)) == (False, True, 1)
    assert second.json()["generated_at"] == first.json()["generated_at"]
    # Another variant is another answer.
    await client.get(f"{path}&top_k=3")
    assert len(worker.requests) == 2
    seen = client.context.recommending.watch.tick
    await database.execute("UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1")
    await database.execute("UPDATE owner_progress SET absorbed[1] = absorbed[1] + 1")
    await until(lambda: client.context.recommending.watch.moved(ANY) > seen)
    third = await client.get(path)
    assert (third.json()["cached"], len(worker.requests)) == (False, 3)


async def test_a_workers_problem_is_the_answer(api: tuple[ServedClient, AnsweringServer]) -> None:
    """Status, kind, and the fields at fault are what the worker says."""
    client, worker = api
    error: dict[str, Any] = {
        "type": "urn:mess-ai:problem:wrong-dimension",
        "title": "Wrong dimension",
        "status": 422,
        "detail": "embedding has 2 components; this catalogue has 32.",
        "errors": [{"field": "embedding", "message": "has 2 components"}],
    }
    worker.reply = lambda _: {"status": "error", "error": error}
    response = await client.post("/recommend", json={"embedding": [0.5, 0.5]})
    assert fields_of(problem_of(response, 422, "wrong-dimension")) == ["embedding"]


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_a_workers_problem_is_in_the_callers_terms(database: Database, log_format: str) -> None:
    """Who asked by a query string is told of its parameters, by whichever way the question went."""
    settings = ServingSettings(health_ttl=0, log_format=log_format)
    error = {
        "type": "urn:mess-ai:problem:invalid-parameters",
        "title": "Invalid parameters",
        "status": 422,
        "detail": "filters.year_composed: min is above max.",
        "errors": [{"field": "filters.year_composed", "message": "min is above max"}],
    }
    async with answering(database) as worker, serve(Served(database, settings)) as client:
        worker.reply = lambda _: {"status": "error", "error": error}
        query = "year_composed_min=1800&year_composed_max=1700"
        for path in (f"{PATH}?{query}", f"/explain?seed={TRACK}&candidate=test/00124&{query}"):
            document = problem_of(await client.get(path), 422, "invalid-parameters")
            assert fields_of(document) == ["year_composed"]
            assert document["detail"] == "year_composed: min is above max."


async def test_an_explanation_names_its_own_parameters(api: tuple[ServedClient, AnsweringServer]) -> None:
    """The track_id of a request is the seed of an explanation, also if the answer is shared."""
    client, worker = api
    error = {
        "type": "urn:mess-ai:problem:track-not-found",
        "title": "Unknown track",
        "status": 404,
        "detail": "There is no track 'no such'.",
        "errors": [{"field": "track_id", "message": "names no track of the catalogue"}],
    }
    worker.reply = lambda _: {"status": "error", "error": error}
    asked = {"track_id": "no such", "candidate": TRACK}
    explained, posted = await asyncio.gather(
        client.get(f"/explain?seed=no+such&candidate={TRACK}"), client.post("/recommend", json=asked)
    )
    assert fields_of(problem_of(explained, 404, "track-not-found")) == ["seed"]
    assert fields_of(problem_of(posted, 404, "track-not-found")) == ["track_id"]


async def test_a_worker_that_is_late_is_504(api: tuple[ServedClient, AnsweringServer]) -> None:
    """A worker that is there and does not reply in time is a 504; what is asked next is answered."""
    client, worker = api
    worker.reply = lambda _: None
    response = await client.post("/recommend", json=SEEDS)
    problem_of(response, 504, "no-reply")
    assert int(response.headers["retry-after"]) > 0
    assert len(worker.requests) == 1
    assert 2_000 < worker.requests[0]["timeout_ms"] <= 3_000
    worker.reply = lambda asked: {"status": "ok", **body_of(asked, notes=["in time"])}
    response = await client.post("/recommend", json=SEEDS)
    assert response.json()["notes"] == ["in time"]
    outcomes = {
        outcome: _count(client, "mess_api_worker_replies_total", outcome=outcome)
        for outcome in ("used", "late", "broken")
    }
    assert outcomes == {"used": 1, "late": 0, "broken": 0}


async def test_a_batch_fails_in_parts(
    api: tuple[ServedClient, AnsweringServer], catalogue: ServedCatalogue
) -> None:
    """Each entry of a batch is a body or a problem, in their order: stored, computed, unknown, malformed."""
    client, worker = api
    entries = [{"track_id": TRACK}, SEEDS, {"track_id": "no such"}, {"track_id": TRACK, "top_k": 99}, 5]
    response = await client.post("/recommend/batch", json={"requests": entries * 20})
    assert response.status_code == 200
    BatchResponse.model_validate(response.json())
    stored, computed, unknown, malformed, nonsense = response.json()["results"][-5:]
    names = [item["track_id"] for item in stored["recommendations"]]
    assert names == [track_id for track_id, _ in catalogue.expected(TRACK, 10)]
    assert (computed["cached"], len(worker.requests)) == (False, 1)
    assert (unknown["status"], unknown["type"]) == (404, "urn:mess-ai:problem:track-not-found")
    assert (malformed["errors"][0]["field"], nonsense["errors"][0]["field"]) == ("top_k", "request")
    assert nonsense["instance"] == "/recommend/batch#99"
    too_many = await client.post("/recommend/batch", json={"requests": entries * 21})
    assert fields_of(problem_of(too_many, 422, "invalid-parameters")) == ["requests"]


async def test_a_defect_in_a_batch_is_its_entrys(
    api: tuple[ServedClient, AnsweringServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw of one entry is a 500 in its place, with the id that the log tells of it by."""
    client, _ = api
    answer = client.context.recommending.answer

    async def failing(target: bytes, track_id: str | None, *rest: Any) -> Any:
        if track_id == "test/00124":
            raise RuntimeError("a defect")
        return await answer(target, track_id, *rest)

    monkeypatch.setattr(client.context.recommending, "answer", failing)
    entries: list[dict[str, Any]] = [{"track_id": "test/00124"}, {"track_id": TRACK}]
    response = await client.post("/recommend/batch", json={"requests": entries})
    assert response.status_code == 200
    broken, fine = response.json()["results"]
    assert (broken["status"], broken["instance"]) == (500, "/recommend/batch#0")
    assert broken["request_id"] == response.headers["x-request-id"]
    assert fine["reference_track"] == TRACK


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"track_id": "a\0b"}, "track_id"),
        ({"track_id": "a\nb"}, "track_id"),
        ({"track_id": TRACK, "exclude": ["a\0b"]}, "exclude.0"),
        ({"track_id": TRACK, "filters": {"era": "a\0b"}}, "filters.era"),
        ({"track_id": TRACK, "filters": {"extra.mood": "a\0b"}}, "filters.extra.mood"),
        (
            {"track_id": TRACK, "user_context": {"deep": [[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]}},
            "user_context.deep",
        ),
    ],
)
async def test_what_cannot_be_stored_is_refused(
    client: ServedClient, entry: dict[str, Any], field: str
) -> None:
    """Alone it is a 422 that names the field; in a batch, too, and the other entries are answered."""
    alone = await client.post("/recommend", json=entry)
    assert fields_of(problem_of(alone, 422, "invalid-parameters")) == [field]
    response = await client.post("/recommend/batch", json={"requests": [entry, {"track_id": TRACK}]})
    assert response.status_code == 200
    refused, fine = response.json()["results"]
    assert [error["field"] for error in refused["errors"]] == [field]
    assert fine["reference_track"] == TRACK


async def test_an_entry_however_deep_is_answered(client: ServedClient) -> None:
    """What is nested deeper than JSON is written here is refused alone."""
    deep = b'{"track_id":"a","user_context":{"deep":%s%s}}' % (b"[" * 500, b"]" * 500)
    response = await client.post(
        "/recommend/batch", content=b'{"requests":[%s,{"track_id":"%s"}]}' % (deep, TRACK.encode())
    )
    assert response.status_code == 200
    refused, fine = response.json()["results"]
    assert (refused["status"], fine["reference_track"]) == (422, TRACK)


async def test_reads_wait_for_an_event_or_say_that_they_did_not(
    api: tuple[ServedClient, AnsweringServer], database: Database, catalogue: ServedCatalogue
) -> None:
    """An event that every list has taken in is read from the store, at once; another one is the workers' business."""
    client, worker = api
    worker.reply = lambda asked: {"status": "ok", **body_of(asked, provisional=True)}
    taken = sum(1 for track in catalogue.tracks if track.partition == 3)
    read = (await client.get(f"{PATH}?min_offset=3:{taken - 1}")).json()
    assert (read["cached"], worker.requests) == (True, [])
    searched = (await client.get(f"{PATH}?min_offset=3:{taken}")).json()
    assert (searched["cached"], searched["provisional"]) == (False, True)
    assert worker.requests[0]["min_offset"] == {"partition": 3, "offset": taken}
    waiting = asyncio.create_task(client.get(f"{PATH}?top_k=3&min_offset=3:{taken}"))
    await database.execute("UPDATE ingest_partitions SET consumed_offset = consumed_offset + 1")
    await database.execute("UPDATE owner_progress SET absorbed[4] = absorbed[4] + 1")
    assert (await waiting).json()["cached"] is True
    assert len(worker.requests) == 1


async def test_who_waits_for_an_event_is_given_no_body_from_before_it(
    api: tuple[ServedClient, AnsweringServer], database: Database, catalogue: ServedCatalogue
) -> None:
    """A materialised response answers only if the searched catalogue had the event, even if every list has it."""
    client, worker = api
    worker.reply = lambda asked: {"status": "ok", **body_of(asked, provisional=True)}
    track = catalogue.tracks[catalogue.by_id[TRACK]]
    kept = orjson.dumps(body_of({"track_id": TRACK, "strategy": "diverse"}, mode="mmr"))
    await database.execute(
        "INSERT INTO materialised_recommendations (key, strategy, mode, variant, body, tag, members, list_version,"
        " searched, generated_at, heat) SELECT key, 'diverse', 'mmr', 0, $2, 'W/\"a\"', '{}', version,"
        " '{\"3\": 5}', now(), 1 FROM neighbour_lists WHERE key = $1",
        track.key,
        kept,
    )
    for offset, asked in ((4, 0), (5, 1)):
        read = await client.get(f"{PATH}?strategy=diverse&min_offset=3:{offset}")
        assert (read.status_code, len(worker.requests)) == (200, asked)
    assert read.json()["provisional"] is True


async def test_a_list_that_exclusions_leave_short_is_searched_for(
    api: tuple[ServedClient, AnsweringServer], catalogue: ServedCatalogue
) -> None:
    """A reader who excludes a whole list gets other tracks from a worker; if the list has enough left, it is read."""
    client, worker = api
    heard = [track_id for track_id, _ in catalogue.expected(TRACK, 45)]
    read = await client.get(PATH, params={"exclude": heard[:40]})
    assert (read.json()["cached"], len(read.json()["recommendations"]), worker.requests) == (True, 10, [])
    for count in (41, 45):
        searched = await client.get(PATH, params={"exclude": heard[:count]})
        assert searched.json()["cached"] is False
    assert [len(request["exclude"]) for request in worker.requests] == [41, 45]
    worker.reply = lambda asked: {"status": "error", "error": {"type": "about:blank", "status": 503}}
    assert (await client.get(PATH, params={"exclude": heard})).status_code == 503


async def test_a_track_without_a_list_is_searched_for(
    api: tuple[ServedClient, AnsweringServer], database: Database, catalogue: ServedCatalogue
) -> None:
    """Until its list is there a track's answer is a worker's, provisional; then it is read."""
    client, worker = api
    worker.reply = lambda asked: {"status": "ok", **body_of(asked, provisional=True)}
    track = catalogue.tracks[catalogue.by_id[TRACK]]
    await database.execute("UPDATE neighbour_lists SET key = 1 WHERE key = $1", track.key)
    assert (await client.get(PATH)).json()["provisional"] is True
    await database.execute("UPDATE neighbour_lists SET key = $1 WHERE key = 1", track.key)
    body = (await client.get(PATH)).json()
    assert (body["provisional"], body["cached"], len(worker.requests)) == (False, True, 1)


async def test_a_list_that_comes_before_the_reply_is_the_answer(
    api: tuple[ServedClient, AnsweringServer], database: Database, catalogue: ServedCatalogue
) -> None:
    """Where no worker replies in time, as while one takes over from another, the list may have been written meanwhile."""
    client, worker = api
    worker.reply = lambda _: None
    track = catalogue.tracks[catalogue.by_id[TRACK]]
    await database.execute("UPDATE neighbour_lists SET key = 1 WHERE key = $1", track.key)
    waiting = asyncio.create_task(client.get(PATH))
    await worker.asked(1)
    await database.execute("UPDATE neighbour_lists SET key = $1 WHERE key = 1", track.key)
    response = await waiting
    assert (response.status_code, response.json()["reference_track"]) == (200, TRACK), response.text


async def test_what_would_be_too_late_is_refused_at_once(database: Database) -> None:
    """A worker that takes 0.2 s for each of 40 questions: what it can do in time is answered, the rest is refused early."""
    settings = ServingSettings(health_ttl=0, request_timeout=4.0)
    async with answering(database) as worker, serve(Served(database, settings)) as client:
        worker.seconds = 0.2
        # The first is what it learns from how slow the worker is.
        assert (await client.post("/recommend", json={"seeds": [TRACK]})).status_code == 200
        asked = [{"seeds": [TRACK], "top_k": top_k} for top_k in range(11, 51)]
        responses = await asyncio.gather(*(client.post("/recommend", json=each) for each in asked))
        refused = [response for response in responses if response.status_code != 200]
        for response in refused:
            problem_of(response, 503, "too-busy")
            assert int(response.headers["retry-after"]) >= 1
        assert 4 <= len(asked) - len(refused) <= 20
        assert len(worker.requests) == 1 + len(asked) - len(refused)
        assert _count(client, "mess_api_worker_requests_refused_total") == len(refused)
        assert b"mess_api_worker_queue_seconds" in client.context.metrics.render()


async def test_without_a_worker_it_is_503(database: Database) -> None:
    """It is told at once, not after the timeout; what is stored is read all the same."""
    settings = ServingSettings(health_ttl=0, request_timeout=60.0)
    async with serve(Served(database, settings)) as client:
        response = await client.post("/recommend", json=SEEDS)
        problem_of(response, 503, "no-worker")
        assert int(response.headers["retry-after"]) > 0
        assert (await client.get(PATH)).json()["cached"] is True


async def test_a_worker_that_takes_nothing_is_passed_over(
    api: tuple[ServedClient, AnsweringServer], database: Database
) -> None:
    """One that leaves, one that has been replaced and one that has died: another one answers, and nobody notices."""
    client, first = api
    first.status = 503
    await database.execute(
        "INSERT INTO worker_lives (worker, owner, questions_url, questions_token) VALUES"
        " ('dead', 'dead', 'http://127.0.0.1:1/questions', 'any'),"
        " ('starting', 'starting', NULL, NULL)"
    )
    async with answering(database, "second") as second:
        answers = [await client.post("/recommend", json=SEEDS | {"top_k": 5 + n}) for n in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6
        assert (len(first.requests), len(second.requests)) == (0, 6)
    # The second is gone now; the first takes requests again, from when it is asked next.
    first.status = 200
    assert (await client.post("/recommend", json=SEEDS)).status_code == 200
    assert _count(client, "mess_api_worker_requests_repeated_total") > 0


async def test_a_worker_that_starts_is_waited_for(database: Database) -> None:
    """What is asked while the only worker loads its catalogue is answered as soon as it can."""
    settings = ServingSettings(health_ttl=0, request_timeout=20.0)
    await database.execute("INSERT INTO worker_lives (worker, owner) VALUES ('nutshell', 'starting')")
    async with serve(Served(database, settings)) as client:
        asked = asyncio.create_task(client.post("/recommend", json=SEEDS))
        await asyncio.sleep(0.3)
        assert not asked.done()
        async with answering(database):
            assert (await asked).status_code == 200


async def test_requests_are_spread_over_workers(
    api: tuple[ServedClient, AnsweringServer], database: Database
) -> None:
    """Each request goes to the worker with the fewest under way."""
    client, first = api
    async with answering(database, "second") as second:
        number = 0
        while not second.requests:  # until the API has looked who there is
            number += 1
            await client.post("/recommend", json=SEEDS | {"exclude": [f"nothing-{number}"]})
        first.requests.clear()
        second.requests.clear()
        first.seconds = second.seconds = 0.1
        asked = [SEEDS | {"top_k": top_k} for top_k in range(10, 20)]
        answers = await asyncio.gather(*(client.post("/recommend", json=each) for each in asked))
    assert {answer.status_code for answer in answers} == {200}
    assert (len(first.requests), len(second.requests)) == (5, 5)


async def test_without_a_broker_questions_are_answered(database: Database) -> None:
    """The API starts, reads and asks without its broker; what needs one is told so in time."""
    settings = ServingSettings(health_ttl=0, broker_timeout=0.3)
    options = {"bootstrap_servers": "127.0.0.1:1"}
    async with answering(database), serve(Served(database, settings, kafka_options=options)) as client:
        problem_of(await client.get("/changes"), 503, "broker-unavailable")
        for response in (await client.post("/recommend", json=SEEDS), await client.get(f"{PATH}/compare")):
            assert response.status_code == 200
        assert (await client.get(PATH)).json()["cached"] is True
        assert (await client.get("/health/ready")).status_code == 200

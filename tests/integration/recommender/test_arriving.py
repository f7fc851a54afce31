"""What is asked of a worker before it has everything: it waits for what is about to come, and says what has gone."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from store import tracks
from store.pool import transaction
from streams.contracts import RecommendationReply, RecommendationRequest
from streams.recommender.answering import AnswerProcess
from streams.recommender.recommender import Recommender
from tests.integration.recommender.conftest import DIMENSION, RecommenderBench, recommender_of
from tests.integration.recommender.test_materialised import batch_of

pytestmark = pytest.mark.integration
Run = Callable[[Any], Any]

SEEDS = ["test/00201", "test/00202"]


async def ask(recommender: Recommender, **fields: Any) -> RecommendationReply:
    """Ask a recommender, and read the answer by the contract."""
    request = RecommendationRequest.model_validate({"request_id": "r", **fields})
    return RecommendationReply.model_validate_json(await recommender.answer(request))


def test_a_question_waits_for_the_catalogue_to_be_loaded(bench: RecommenderBench, run: Run) -> None:
    """A worker that has just started answers when it can search; nobody else has the question."""

    async def asked_first() -> RecommendationReply:
        recommender = recommender_of(bench.pool, None, bench.settings)
        waiting = asyncio.create_task(ask(recommender, seeds=SEEDS))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        recommender.attach(bench.search)
        reply = await waiting
        await recommender.close()
        return reply

    reply = run(asked_first())
    assert reply.error is None
    assert len(reply.recommendations or []) == 10


def test_a_question_waits_for_a_track_that_was_accepted_a_moment_ago(
    bench: RecommenderBench, run: Run
) -> None:
    """The store has it before the search does."""

    async def asked_first() -> RecommendationReply:
        search = AnswerProcess(DIMENSION)
        await search.start()
        names = [track.track_id for track in bench.catalogue.tracks if track.track_id != SEEDS[1]]
        others = batch_of(bench, upserted=names, offset=1)
        await search.load(others.keys, others.track_ids, others.vectors, others.metadata)
        recommender = recommender_of(bench.pool, search, bench.settings)
        waiting = asyncio.create_task(ask(recommender, seeds=SEEDS))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await search.apply(batch_of(bench, upserted=[SEEDS[1]], offset=1))
        reply = await waiting
        await recommender.close()
        await search.stop()
        return reply

    reply = run(asked_first())
    assert reply.error is None
    assert all(set(item.contributions) == set(SEEDS) for item in reply.recommendations or [])


def test_a_track_that_went_while_it_was_asked_about_is_not_found(bench: RecommenderBench, run: Run) -> None:
    """The search knows of it before what is remembered does: 404, not an outage."""
    gone = "test/00203"
    track = bench.catalogue.tracks[bench.catalogue.by_id[gone]]

    async def withdrawn() -> RecommendationReply:
        assert (await bench.ask(seeds=[gone, SEEDS[0]])).error is None
        async with transaction(bench.pool) as connection:
            await tracks.withdraw_tracks(
                connection, [tracks.Withdrawal(gone, track.key, track.partition, 10**8)]
            )
        await bench.search.apply(batch_of(bench, deleted=[gone], offset=10**8))
        return await bench.ask(seeds=[gone, SEEDS[0]])

    reply = run(withdrawn())
    assert reply.error is not None
    assert (reply.error.status, reply.error.errors[0].field) == (404, "seeds")

"""Parameters that a path cannot use."""

import httpx
import pytest

from tests.integration.serving.problems import fields_of, problem_of

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/recommend/test%2F00123", "top_k=0", "top_k"),
        ("/recommend/test%2F00123", "top_k=51", "top_k"),
        ("/recommend/test%2F00123", "top_k=-1", "top_k"),
        ("/recommend/test%2F00123", "top_k=ten", "top_k"),
        ("/recommend/test%2F00123", "top_k=", "top_k"),
        ("/recommend/test%2F00123", "top_k=1.5", "top_k"),
        ("/recommend/test%2F00123", "top_k=99999999999999999999999", "top_k"),
        ("/recommend/test%2F00123", "top_k=3&top_k=4", "top_k"),
        ("/recommend/test%2F00123", "strategy=", "strategy"),
        ("/recommend/test%2F00123", "exclude=", "exclude"),
        ("/recommend/test%2F00123", "exclude=a%00b", "exclude"),
        ("/recommend/test%2F00123", "limit=3", "limit"),
        ("/recommend/test%2F00123", "composer=", "composer"),
        ("/recommend/test%2F00123", "year_composed_min=early", "year_composed_min"),
        ("/recommend/test%2F00123", "max_per_composer=0", "max_per_composer"),
        ("/recommend/test%2F00123", "near_duplicates=perhaps", "near_duplicates"),
        ("/recommend/test%2F00123", "top_k=5&at_least=6", "at_least"),
        ("/recommend/test%2F00123", "min_offset=3", "min_offset"),
        ("/recommend/test%2F00123", "parameters.lambda=1&parameters.lambda=2", "parameters.lambda"),
        ("/recommend/test%2F00123", "user_context.recent_skips=-1", "user_context.recent_skips"),
        ("/recommend/test%2F00123", "strategy=%FF", "query"),
        ("/tracks", "limit=0", "limit"),
        ("/tracks", "limit=501", "limit"),
        ("/tracks", "limit=all", "limit"),
        ("/tracks", "cursor=abc", "cursor"),
        ("/tracks", "cursor=", "cursor"),
        ("/tracks", "composer=a&composer=b", "composer"),
        ("/tracks", "composer=", "composer"),
        ("/tracks", "search=%00", "search"),
        ("/tracks", "title=x", "title"),
        ("/tracks", "offset=10", "offset"),
        ("/map", "field=embedding", "field"),
        ("/map", "field=extra", "field"),
        ("/map", "field=extra.", "field"),
        ("/map", "after=-1", "after"),
        ("/map", "limit=0", "limit"),
        ("/map", "space=Melody", "space"),
        ("/recommend/test%2F00123", "space=", "space"),
        ("/recommend/test%2F00123", "space=default&space=default", "space"),
        ("/recommend/test%2F00123/compare", "space=a-b", "space"),
        ("/explain", "seed=a&candidate=b&space=a%20b", "space"),
        ("/tracks/test%2F00123", "space=%C3%A4", "space"),
        ("/health/detailed", "space=Melody", "space"),
        ("/strategies", "space=default", "space"),
        ("/spaces", "space=default", "space"),
    ],
)
async def test_bad_parameter_is_named(client: httpx.AsyncClient, path: str, query: str, field: str) -> None:
    """A parameter out of range, repeated, malformed or unknown is a 422 that names it."""
    document = problem_of(await client.get(f"{path}?{query}"), 422, "invalid-parameters")
    assert set(fields_of(document)) == {field}


@pytest.mark.parametrize("path", ["/recommend", "/recommend/batch"])
async def test_a_query_string_beside_a_body_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """What somebody asks for there is a member of the body, and would be ignored."""
    answer = await client.post(f"{path}?space=melody&top_k=5", json={"track_id": "test/00123"})
    assert fields_of(problem_of(answer, 422, "invalid-parameters")) == ["space", "top_k"]

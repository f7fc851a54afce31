"""Which context a request of a space gets, over a store and contexts that only note."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving import spaces as module
from serving.context import ApiContext, SpaceParts
from serving.exchange import ContextExchange
from serving.metrics import ApiMetrics
from serving.problems import ApiProblemError
from serving.spaces import Spaces, settled_context
from store.errors import StoreUnavailableError
from streams.generations import GenerationName
from tests.support.polling import until

pytestmark = pytest.mark.unit

FIRST, MELODY, SECOND = GenerationName(), GenerationName("melody", 1), GenerationName("melody", 2)


class SteeredStore:
    """Which generations serve, and what was opened over it.

    Attributes:
        serving: What each look finds; empty while the store is away.
        contexts: Every context that was opened.
        opens: Cleared, a context takes until it is set to be opened.
        trust: Seconds that a look is trusted; 0: each request looks itself.
        refusal: Why contexts other than `default`'s cannot be opened; None if they can.
    """

    def __init__(self) -> None:
        self.serving = {"default": FIRST, "melody": MELODY}
        self.contexts: list[Any] = []
        self.feeds: list[SimpleNamespace] = []
        self.opens = asyncio.Event()
        self.opens.set()
        self.trust = 0.0
        self.refusal: str | None = None

    def opened(self, name: GenerationName) -> list[Any]:
        """The contexts of a generation, closed ones too."""
        return [each for each in self.contexts if each.generation == name]

    @asynccontextmanager
    async def open_context(self, name: GenerationName, space: SpaceParts) -> AsyncIterator[ApiContext]:
        """A context over this store."""
        if name.space != "default":
            await self.opens.wait()
            if self.refusal:
                raise StoreUnavailableError(self.refusal)
        context = SimpleNamespace(
            generation=name,
            recommending=SimpleNamespace(watch=_Watch(self, name, space.turned), bound=20.0),
            feed=space.feed,
            memory=SimpleNamespace(hits=0),
            pool=None,
            fragments=None,
            workers=None,
            requests=0,
            closed=False,
        )
        self.contexts.append(context)
        try:
            yield cast("ApiContext", context)
        finally:
            context.closed = True

    def open_feed(self, name: GenerationName, _: Callable[[], Any]) -> Any:
        """A feed that notes its end."""
        feed = SimpleNamespace(space=name.space, ended=False, run=asyncio.Event().wait)
        feed.end = lambda: setattr(feed, "ended", True)
        self.feeds.append(feed)
        return feed


class _Watch:
    """Looks at the store as often as somebody waits for it."""

    def __init__(self, store: SteeredStore, name: GenerationName, turned: Callable[[], None]) -> None:
        self._store, self._name, self._turned = store, name, turned
        self._looked_at = float("-inf")
        self.seen = SimpleNamespace(serving={})
        self.look()

    def look(self) -> None:
        if not self._store.serving:
            self._looked_at = float("-inf")
            return
        self._looked_at = time.perf_counter()
        self.seen = SimpleNamespace(serving=dict(self._store.serving))
        if self.seen.serving.get(self._name.space) != self._name:
            self._turned()

    def trusted(self, since: float) -> bool:
        return since - self._looked_at <= self._store.trust

    def attend(self, _: float) -> None:
        """Somebody reads."""

    async def renewed(self, since: float, _: float) -> bool:
        await asyncio.sleep(0)
        self.look()
        return self._looked_at >= since


@pytest.fixture
def store() -> SteeredStore:
    """A store in which a generation of each of two spaces serves."""
    return SteeredStore()


@pytest.fixture
async def spaces(store: SteeredStore) -> AsyncIterator[Spaces]:
    """The spaces of that store, running."""
    made = _spaces(store)
    async with made.running():
        yield made


def _spaces(store: SteeredStore, timeout: float = 20.0) -> Spaces:
    metrics = ApiMetrics()

    def make(first: GenerationName, deserted: Callable[[], None]) -> ContextExchange:
        return ContextExchange(first, store.open_context, store.open_feed, metrics, timeout, deserted)

    return Spaces(make, timeout)


async def _context(spaces: Spaces, space: str) -> Any:
    """The context of a space for a request that begins now."""
    return await spaces.settled(space, time.perf_counter())


async def _refused(spaces: Spaces, space: str) -> ApiProblemError:
    with pytest.raises(ApiProblemError) as caught:
        await _context(spaces, space)
    return caught.value


async def test_a_space_is_opened_at_its_first_request_and_once(store: SteeredStore, spaces: Spaces) -> None:
    """However many come at the same time, and however many of them go away again; `default` is always open."""
    assert ([each.generation for each in store.contexts], spaces.open) == ([FIRST], ["default"])
    store.opens.clear()
    asking = [asyncio.create_task(_context(spaces, "melody")) for _ in range(20)]
    await asyncio.sleep(0.01)
    for gone in asking[:10]:
        gone.cancel()
    store.opens.set()
    found = await asyncio.gather(*asking[10:])
    assert {id(each) for each in found} == {id(store.opened(MELODY)[0])}
    assert (len(store.opened(MELODY)), spaces.open) == (1, ["default", "melody"])
    assert await _context(spaces, "default") is store.contexts[0]


async def test_a_query_string_that_names_an_open_space_has_its_context_at_hand(spaces: Spaces) -> None:
    """Any other gets that of `default`, which is corrected where the request is read."""
    assert spaces.at_hand(b"space=melody").generation == FIRST
    melody = await _context(spaces, "melody")
    for query in (b"space=melody", b"top_k=5&space=melody&era=Baroque"):
        assert spaces.at_hand(query) is melody
    for query in (b"", b"top_k=5", b"space=", b"space=default", b"space=mood", b"space=melody%20"):
        assert spaces.at_hand(query) is spaces.default.current


async def test_a_request_is_given_the_context_of_the_space_that_it_names(spaces: Spaces) -> None:
    """Whatever it had at hand: the one is counted off, the other on."""
    default = spaces.default.current
    default.requests = 1
    scope: dict[str, Any] = {"state": {"spaces": spaces, "context": default}}
    melody = await settled_context(scope, time.perf_counter(), "melody")
    assert scope["state"]["context"] is melody
    assert (melody.generation, melody.requests, default.requests) == (MELODY, 1, 0)
    assert await settled_context(scope, time.perf_counter(), "default") is default
    assert (melody.requests, default.requests) == (0, 1)


async def test_a_space_that_nothing_serves_is_a_problem_and_opens_nothing(
    store: SteeredStore, spaces: Spaces
) -> None:
    """404, which names those that serve; while the store is away nobody can say so, and it is 503."""
    problem = await _refused(spaces, "mood")
    assert (problem.status_code, problem.name) == (404, "unknown-space")
    assert problem.members["known"] == ["default", "melody"]
    assert len(store.contexts) == 1
    store.serving = {}
    assert (await _refused(spaces, "mood")).name == "store-unavailable"


async def test_a_space_that_has_just_been_promoted_first_is_found(
    store: SteeredStore, spaces: Spaces
) -> None:
    """Though the last look is trusted, which was before: nobody is told that there is no such space before another look."""
    store.trust = 60.0
    store.serving["mood"] = GenerationName("mood", 1)
    assert (await _context(spaces, "mood")).generation == GenerationName("mood", 1)


async def test_a_space_that_cannot_be_opened_fails_alone_and_is_tried_again(
    store: SteeredStore, spaces: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a reason for `/health/detailed`; not each request tries, and once it can be opened it is."""
    monkeypatch.setattr(module, "RETRY_SECONDS", (60.0, 60.0))
    store.refusal = "it may not be read"
    problem = await _refused(spaces, "melody")
    assert (problem.status_code, problem.name) == (503, "space-unavailable")
    assert spaces.troubles == ["space melody serves and cannot be opened: it may not be read"]
    store.refusal = None
    assert (await _refused(spaces, "melody")).name == "space-unavailable"
    assert (await _context(spaces, "default")).generation == FIRST
    monkeypatch.setattr(module.time, "perf_counter", lambda now=time.perf_counter: now() + 60.0)
    assert (await _context(spaces, "melody")).generation == MELODY
    assert spaces.troubles == []


async def test_nobody_waits_for_long_for_a_space_that_is_being_opened(store: SteeredStore) -> None:
    """After the timeout it is 503; the opening goes on for who comes later."""
    spaces = _spaces(store, timeout=0.01)
    async with spaces.running():
        store.opens.clear()
        assert (await _refused(spaces, "melody")).name == "space-unavailable"
        store.opens.set()
        await until(lambda: spaces.open == ["default", "melody"])
        assert (await _context(spaces, "melody")).generation == MELODY


async def test_a_promotion_inside_a_space_leaves_the_others_alone(
    store: SteeredStore, spaces: Spaces
) -> None:
    """A request that began keeps the generation that it has; the next one gets the new one, and then the old one is closed."""
    before, default = await _context(spaces, "melody"), spaces.default.current
    before.requests += 1
    store.serving["melody"] = SECOND
    after = await _context(spaces, "melody")
    assert (after.generation, before.closed) == (SECOND, False)
    assert await _context(spaces, "default") is default
    assert after.feed is before.feed is not default.feed
    before.requests -= 1
    await until(lambda: before.closed)
    assert (after.closed, default.closed, after.feed.ended) == (False, False, False)


async def test_a_space_of_which_nothing_serves_any_more_is_closed_after_its_last_request(
    store: SteeredStore, spaces: Spaces
) -> None:
    """New requests are refused, its streams end at once, and it is opened anew when another generation of it serves."""
    context = await _context(spaces, "melody")
    context.requests += 1
    del store.serving["melody"]
    problem = await _refused(spaces, "melody")
    assert (problem.name, problem.members["known"]) == ("unknown-space", ["default"])
    await until(lambda: spaces.open == ["default"])
    assert (context.feed.ended, context.closed) == (True, False)
    assert (await _refused(spaces, "melody")).name == "unknown-space"
    context.requests -= 1
    await until(lambda: context.closed)
    store.serving["melody"] = SECOND
    again = await _context(spaces, "melody")
    assert (again.generation, again.feed.ended, spaces.open) == (SECOND, False, ["default", "melody"])


async def test_nothing_is_left_open_at_the_end(store: SteeredStore) -> None:
    """What is open, what is being opened and what is being left are all closed."""
    spaces = _spaces(store)
    async with spaces.running():
        store.serving |= {"mood": GenerationName("mood", 1), "tempo": GenerationName("tempo", 1)}
        melody, _ = await _context(spaces, "melody"), await _context(spaces, "mood")
        melody.requests += 1
        del store.serving["melody"]
        await _refused(spaces, "melody")
        await until(lambda: spaces.open == ["default", "mood"])
        store.opens.clear()
        opening = asyncio.create_task(_context(spaces, "tempo"))
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert len(store.contexts) == 3
    assert all(context.closed for context in store.contexts)

"""Fixtures that every test may ask for, and one that every test gets."""

import gc
import os
from collections.abc import Iterator

import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support import examples
from tests.support.services import (
    api_database_url,
    database_url,
    empty_database_url,
    kafka_broker,
    pipeline_broker,
    postgres_server,
    tansu_broker,
    template_database,
)

__all__ = [
    "_logging_as_before",
    "api_database_url",
    "database_url",
    "empty_database_url",
    "kafka_broker",
    "pipeline_broker",
    "postgres_server",
    "tansu_broker",
    "template_database",
]

# What is imported, collected and kept for the session is no garbage: a third of a short run went into looking at it.
gc.set_threshold(10_000, 10, 10)

examples.register()
# A layout of the map takes a processor for half a minute; tests that are not about the map go without.
os.environ.setdefault("MESS_MAP_LAYOUT", "false")


# The files that take longest: begun first, they are done when the others are.
_LONG = ("tests/integration/worker/", "tests/faults/", "tests/e2e/", "tests/integration/stack/")
# Folders whose files share a stack.
_TOGETHER = ("tests/e2e/page/",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; tests that no run of the Makefile's would select are refused."""
    for item in items:
        if item.nodeid.startswith("tests/") and _is_lost(item):
            raise pytest.UsageError(f"{item.nodeid}: tests/unit/, and nothing else, is marked as unit")
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


def _is_lost(item: pytest.Item) -> bool:
    return item.nodeid.startswith("tests/unit/") != (item.get_closest_marker("unit") is not None)


def pytest_collection_finish() -> None:
    """Keep what stands by now out of every later collection of garbage."""
    gc.freeze()


class _Scheduling(LoadFileScheduling):
    """A file stays on one process, and so does a folder whose files share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in _TOGETHER if nodeid.startswith(folder)), None)
        return folder or super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Distribute as `--dist loadfile` says, but for what belongs together."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def _log_plainly() -> None:
    """As structlog does by default, but for tracebacks: drawn with every variable, one takes a second of a processor."""
    structlog.reset_defaults()
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


_log_plainly()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command run inside a test sets logging up on that test's standard error, which is closed after it."""
    yield
    _log_plainly()

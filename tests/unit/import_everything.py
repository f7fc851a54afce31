"""Imports every module of ours in a process of its own, and tells what that read from the environment or patched elsewhere."""

import contextlib
import importlib
import json
import os
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

ROOMS = ("streams", "store", "serving", "mess", "migrations")
# What is imported first, so that what it does to itself does not count.
LIBRARIES = (
    "aiokafka.codec",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.record.default_records",
    "asyncio",
    "asyncpg.pool",
    "fastapi",
    "faust",
    "faust.app.base",
    "faust.streams",
    "faust.transport.consumer",
    "faust.transport.drivers.aiokafka",
    "gc",
    "json",
    "mode.services",
    "mode.worker",
    "multiprocessing.spawn",
    "numba",
    "starlette.applications",
    "structlog",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.server",
)
ROOT = Path(__file__).parents[2]


def _parts() -> dict[tuple[str, ...], int]:
    """Functions, classes and their methods in the libraries, by where they stand."""
    found: dict[tuple[str, ...], int] = {}
    heads = {name.partition(".")[0] for name in LIBRARIES}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in heads:
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, types.FunctionType | type):
                found[name, key] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                found |= {
                    (name, key, part): id(each) for part, each in list(vars(value).items()) if callable(each)
                }
    return found


def _watch(reads: list[str]) -> None:
    kind: Any = type(os.environ)
    read = kind.__getitem__

    def watched(self: Any, key: str) -> str:
        frame = sys._getframe(1)
        while frame is not None and "site-packages" not in frame.f_code.co_filename:
            path = Path(frame.f_code.co_filename)
            if path != Path(__file__) and path.is_relative_to(ROOT):
                reads.append(f"{key} in {path.relative_to(ROOT)}:{frame.f_lineno}")
                break
            frame = frame.f_back  # type: ignore[assignment]
        return str(read(self, key))

    kind.__getitem__ = watched


def main() -> None:
    """Print a JSON object of `modules`, `reads` and `patched`."""
    for name in LIBRARIES:
        importlib.import_module(name)
    before = _parts()
    reads: list[str] = []
    _watch(reads)
    modules = []
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if module.name.endswith("__main__") or module.name.startswith(
                "migrations."
            ):  # Alembic runs these
                continue
            with contextlib.suppress(ModuleNotFoundError):  # music21, which only rebuilds the demo
                importlib.import_module(module.name)
                modules.append(module.name)
    after = _parts()
    patched = [".".join(place) for place, what in before.items() if after.get(place) != what]
    sys.stdout.write(json.dumps({"modules": len(modules), "reads": reads, "patched": patched}))


if __name__ == "__main__":
    main()

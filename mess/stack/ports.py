"""Loopback TCP ports: which are free, and which were ours last time."""

from __future__ import annotations

import itertools
import random
import socket
from pathlib import Path

import orjson

from mess.stack.errors import StackError
from mess.stack.files import write_private

LOOPBACK = "127.0.0.1"
PICKED = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that connections still closing from an earlier run do not count as "in use".
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Refuse a port a user asked for when it cannot be had.

    Raises:
        StackError: Out of range, not permitted, or in use.
    """
    if not 0 < port < 65536:
        raise StackError(f"port {port} is not a TCP port (1 to 65535)")
    if not is_free(port):
        raise StackError(f"port {port} on {LOOPBACK} is in use or not permitted; choose another with --port")


def pick_free(count: int) -> list[int]:
    """Return `count` distinct loopback ports that are free at this moment.

    Below the ports that systems give to outgoing connections, one of which could take a port between this and its use;
    at random, so that two stacks that start at once hardly ever choose the same.

    Raises:
        StackError: There are not so many.
    """
    shuffled = random.SystemRandom().sample(PICKED, len(PICKED))
    found = list(itertools.islice(filter(is_free, shuffled), count))
    if len(found) < count:
        raise StackError(f"there are no {count} free ports from {PICKED[0]} to {PICKED[-1]} on {LOOPBACK}")
    return found


class PortBook:
    """Ports by name, remembered in a file so that a restarted stack keeps its addresses while they are free."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports = self._load()

    def get(self, name: str) -> int:
        """Return the remembered port of `name` if it is free, or a new free one."""
        port = self._ports.get(name)
        if port is None or not is_free(port):
            taken = set(self._ports.values())
            port = next(candidate for candidate in pick_free(len(taken) + 1) if candidate not in taken)
            self._ports[name] = port
            write_private(self._path, orjson.dumps(self._ports))
        return port

    def _load(self) -> dict[str, int]:
        try:
            stored = orjson.loads(self._path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return {}
        if not isinstance(stored, dict):
            return {}
        return {name: port for name, port in stored.items() if isinstance(port, int) and 0 < port < 65536}

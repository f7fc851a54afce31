"""How messages travel between two of our processes: a pickle, and beside it large arrays as they are, uncopied.

A message is a head (how many arrays, and how long the pickle is), the arrays' sizes, the pickle, the arrays. Either end
may block until a message is whole (`send_message`, `receive_message`), or have the event loop tell when an answer is (`PendingAnswers`).
"""

import asyncio
import os
import pickle
import struct
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, Final, cast

import numpy as np

_HEAD: Final = struct.Struct("=IQ")
_SIZE: Final = struct.Struct("=Q")
# Arrays below this are in the pickle: a copy of them costs less than a system call of their own.
_BESIDE_BYTES: Final = 4096


def encode_message(message: object) -> list[bytes | memoryview]:
    """A message as the parts to be written, in order; they refer to the memory of its arrays."""
    beside: list[memoryview] = []

    def small(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _BESIDE_BYTES:
            return True
        beside.append(raw)
        return False

    pickled = pickle.dumps(message, protocol=5, buffer_callback=small)
    sizes = (_SIZE.pack(view.nbytes) for view in beside)
    return [b"".join((_HEAD.pack(len(beside), len(pickled)), *sizes, pickled)), *beside]


class IncomingCalls:
    """A message that is being read, piece by piece: `room` says where the next bytes belong, `filled` how many came."""

    def __init__(self) -> None:
        self._head = bytearray(_HEAD.size)
        self._beside = 0
        self._body: memoryview | None = None
        self._arrays: list[memoryview] = []
        self.room = memoryview(self._head)

    def filled(self, count: int) -> bool:
        """So many bytes have been put into `room`; returns whether the message is whole."""
        self.room = self.room[count:]
        if self.room:
            return False
        if self._body is None:
            self._beside, pickled = _HEAD.unpack(self._head)
            self.room = self._body = _memory(self._beside * _SIZE.size + pickled)
            return False
        if len(self._arrays) < self._beside:
            (size,) = _SIZE.unpack_from(self._body, len(self._arrays) * _SIZE.size)
            self.room = _memory(size)
            self._arrays.append(self.room)
            return False
        return True

    def message(self) -> Any:
        """What was sent; its arrays are made of the memory that they were read into."""
        assert self._body is not None
        return pickle.loads(self._body[self._beside * _SIZE.size :], buffers=self._arrays)  # noqa: S301 - our own process


def _memory(size: int) -> memoryview:
    return np.empty(size, dtype=np.uint8).data


def send_message(connection: Connection, message: object) -> None:
    """Send a message; returns when all of it is in the pipe."""
    for part in encode_message(message):
        left = memoryview(part)
        while left:
            left = left[os.write(connection.fileno(), left) :]


def receive_message(connection: Connection) -> Any:
    """Wait for a message.

    Raises:
        EOFError: The other end is gone.
    """
    incoming = IncomingCalls()
    while True:
        count = os.readv(connection.fileno(), [incoming.room])
        if not count:
            raise EOFError
        if incoming.filled(count):
            return incoming.message()


class PendingAnswers(asyncio.BufferedProtocol):
    """The asking end on an event loop: each message is answered, in order."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._incoming = IncomingCalls()
        self._transport: asyncio.Transport | None = None

    async def ask(self, message: object) -> Any:
        """The answer to a message.

        Raises:
            EOFError: The other end is gone.
        """
        if self._transport is None:
            raise EOFError
        parts = encode_message(message)
        # Only what is sent is answered: whoever waits for more would be given what others are to have.
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        for part in parts:
            self._transport.write(part)
        return await answer

    def close(self) -> None:
        """Close this end; whoever still waits is told that the other is gone."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        del sizehint
        return self._incoming.room

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if not self._incoming.filled(nbytes):
            return
        whole, self._incoming = self._incoming, IncomingCalls()
        answer = self._waiting.popleft()
        if answer.done():  # whoever asked may have gone
            return
        try:
            answer.set_result(whole.message())
        except Exception as error:  # noqa: BLE001 -- whoever asked hears of it
            answer.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = None
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(EOFError() if exc is None else exc)

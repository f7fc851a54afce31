"""Messages as no client of ours writes them."""

import contextlib
from collections.abc import Iterator

import pytest
from aiokafka.producer import message_accumulator, producer
from aiokafka.record import default_records


class RawName(str):
    """A header's name that travels as bytes which are no UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Its Latin-1, whatever is asked for."""
        del encoding, errors
        return super().encode("latin-1")


@contextlib.contextmanager
def raw_header_names() -> Iterator[None]:
    """Let producers of this process write `RawName`s: aiokafka's compiled builder takes none."""
    slow = default_records._DefaultRecordBatchBuilderPy
    with pytest.MonkeyPatch.context() as patch:
        for module in (message_accumulator, producer):
            patch.setattr(module, "DefaultRecordBatchBuilder", slow)
        yield

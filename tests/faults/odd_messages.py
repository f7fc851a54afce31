"""Odd messages: what passes a check and breaks what comes behind it, and what should not have passed.

Values are written as text, so that they hold what no JSON writer would write: names that come twice, lone surrogates,
numbers beyond any type. The seed fixes them all.
"""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from streams.contracts import TrackMetadata
from streams.kafka.topics import RECOMMENDATION_REQUESTS, TRACK_INGEST, TRACK_INTERACTIONS
from tests.support.foreign import RawName

DIMENSION: Final = 4

Headers = list[tuple[str, bytes | None]]

TEXTS: Final = (
    '""', '" "', '"a"', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udfff x"', '"\\ud83d\\ude00"', '"\\ude00\\ud83d"',
    '"\\uffff"', '"\\ufdd0"', '"\\ufeffx"', '"\\u202eabc"', '"\\u200d"', '"\\u0085"', '"\\r\\n"', '"\\u001b[31m"',
    '"nan"', '"N/A"', '"null"', '"[]"', '"[\'a\', \'b\']"', '"1722-23"', '"c. 1722"', '"1e309"', '"-0"', '"\\u0663"',
    '"12:61"', '"99999:59"', '"9999999999999"', '"2009-02-30"', '"0000-00-00"', '"20090000"', '"31.12.9999"', '"%s"',
    '"\\\\"', '"\\"quoted\\""', "\"'; DROP TABLE tracks; --\"", '"<script>"', '"é"', '"e\\u0301"', '"ﷺ"', '"\U0001d518"',
)  # fmt: skip
NUMBERS: Final = (
    "0", "-0", "-0.0", "0.1", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "1" + "0" * 400, "-" + "9" * 400, "0." + "1" * 400, "NaN", "Infinity", "-Infinity", "1E5", "2147483648", "-1", "65536",
)  # fmt: skip
MOMENTS: Final = (
    "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59+14:00",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-14:00",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-0044-03-15T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1582-10-10",
    "2016-12-31T23:59:60Z", "2026-02-29T00:00:00Z", "2026-02-03T04:05:06", "2026-02-03T04:05:06.123456789Z", "20260203T040506Z",
    "2026-W05-2", "2026-02-03T24:00:00Z", "2026-02-03T04:05:06+23:59", "2026-02-03T04:05:06+24:00", "1790000000", "now", "",
    "infinity", "-infinity", "epoch", "4714-11-24 BC", "294276-12-31T00:00:00Z", "\\ud800", "2026-02-03\\u0000",
)  # fmt: skip
# In milliseconds, as Kafka has them: none, before 1970, of year 1 and before, in microseconds, in nanoseconds.
TIMESTAMPS: Final = (
    -1, 0, 1, -2, -1_000, -62_135_596_800_000, -62_135_596_800_001, -(10**14), -(10**17), 253_402_300_799_999,
    253_402_300_800_000, 1_790_000_000_000_000, 1_790_000_000_000_000_000, 10**17,
)  # fmt: skip
RAW: Final[tuple[bytes | None, ...]] = (
    b"", b" ", b"null", b"true", b"0", b"[]", b"{}", b'"text"', b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"{", b'{"track_id":',
    '{"track_id": "a"}'.encode("utf-16"), b"\x00" * 8, b"\x80", b"[" * 100_000, b'{"a":' * 1_500, b"{}" * 3, b"\x1f\x8b\x08",
    b'{"track_id": "\xed\xa0\x80"}', b"1" * 5_000, b"\x00\x00\x00\x00\x01{}", b"NaN",
)  # fmt: skip
IDS: Final = (
    "ü", "a b", "/", "%2F", "..", "\u3000", "a\u00a0b", "👩\u200d🎤", "\u0301", "\U0001d518", "'", '\\"', "\\\\", "x" * 512, "😀" * 512, "null",
    "\\u0041", "<b>", "a?b#c", "*", "\u05d0\u05d1", "-1", "0", "NaN",
)  # fmt: skip
BAD_IDS: Final = (
    "", "\\u0000", "\\ud800", "\\n", "\\u202e", "\\u0085", "\\ufeff", "x" * 513, "a\\u0000", "\\uffff", "\\u2028", "\\ue000",
)  # fmt: skip
STRATEGIES: Final = (
    "similarity",
    "diverse",
    "popular",
    "hybrid",
    "random",
    "auto",
    "mmr",
    "",
    "x",
    "\\ud800",
)


@dataclass(frozen=True, slots=True)
class OddMessage:
    """A message for a topic of ours; a timestamp of None lets the producer's clock say."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int | None
    headers: Headers


def odd_messages(seed: int, count: int, *, requests: float = 0.01) -> Iterator[OddMessage]:
    """`count` messages, mostly of tracks, a quarter of interactions, and a share of `requests`."""
    maker = _Maker(random.Random(seed))
    for _ in range(count):
        yield maker.message(requests)


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ids = [f"track/{number}" for number in range(300)] + list(IDS)
        self.fields = [
            *TrackMetadata.model_fields,
            "filename",
            "x" * 201,
            "\\ud800",
            "\\u0000",
            "",
            "title",
            "ü",
        ]
        self.asked = 0

    def message(self, requests: float) -> OddMessage:
        """The next one."""
        draw = self.rng.random()
        if draw < requests:
            return self._request()
        if draw < 0.27:
            return self._interaction()
        return self._track()

    def _track(self) -> OddMessage:
        draw = self.rng.random()
        name = self._id()
        if draw < 0.1:
            return self._sent(TRACK_INGEST, name, None)
        if draw < 0.16:
            return self._sent(TRACK_INGEST, name, self.rng.choice(RAW))
        pairs = [("track_id", f'"{name}"'), ("embedding", self._embedding(odd=draw < 0.26))]
        if draw > 0.4:
            pairs.append(("metadata", self._metadata()))
        if self.rng.random() < 0.3:
            pairs.append(("event_time", self._moment()))
        return self._sent(TRACK_INGEST, name, self._object(pairs))

    def _interaction(self) -> OddMessage:
        name = self._id()
        if self.rng.random() < 0.1:
            return self._sent(TRACK_INTERACTIONS, name, self.rng.choice(RAW))
        kind = self._one_of('"play"', '"like"', '"skip"', odd=0.1)
        pairs = [("track_id", f'"{name}"'), ("type", kind), ("event_time", self._moment())]
        pairs.append(("user_id", self._one_of('"u-1"', '"u-2"', odd=0.3)))
        if self.rng.random() < 0.3:
            pairs.append(("event_id", self._one_of('"e-1"', f'"{self.rng.random()}"', odd=0.3)))
        return self._sent(TRACK_INTERACTIONS, name, self._object(pairs))

    def _request(self) -> OddMessage:
        self.asked += 1
        asked = f"ask-{self.asked}"
        pairs = [("request_id", f'"{asked}"'), ("track_id", f'"{self._id()}"')]
        choices = (
            ("strategy", f'"{self.rng.choice(STRATEGIES)}"'),
            ("top_k", self._one_of("5", "50", odd=0.5)),
            (
                "user_context",
                self._object([("time", self._moment()), ("seed", self.rng.choice(NUMBERS))]).decode(),
            ),
            ("filters", self._object([("era", self._json(2)), ("extra.x", self._json(2))]).decode()),
            ("exclude", f'["{self._id()}"]'),
            (
                "seeds",
                f'["{self._id()}", {{"track_id": "{self._id()}", "weight": {self.rng.choice(NUMBERS)}}}]',
            ),
            ("parameters", self._object([("lambda", self._json(1))]).decode()),
            (self.rng.choice(self.fields), self._json(3)),
            ("timeout_ms", self.rng.choice(NUMBERS)),
        )
        pairs += self.rng.sample(choices, self.rng.randrange(1, 4))
        return self._sent(RECOMMENDATION_REQUESTS, asked, self._object(pairs))

    def _sent(self, topic: str, name: str, value: bytes | None) -> OddMessage:
        try:
            key: bytes | None = _unescaped(name)
        except UnicodeEncodeError:
            key = b"\xed\xa0\x80"
        if self.rng.random() < 0.04:
            key = self.rng.choice((None, b"", b"\xff", key[:-1], b'"' + key + b'"', b"\x00", key + b"\n"))
        if key is None and value is None:  # aiokafka sends no such message
            key = b""
        timestamp = self.rng.choice(TIMESTAMPS) if self.rng.random() < 0.1 else None
        headers = self._headers() if self.rng.random() < 0.1 else []
        return OddMessage(topic, key, value, timestamp, headers)

    def _id(self) -> str:
        return self.rng.choice(BAD_IDS if self.rng.random() < 0.05 else self.ids)

    def _object(self, pairs: list[tuple[str, str]]) -> bytes:
        if self.rng.random() < 0.03:  # a name twice
            pairs = [*pairs, self.rng.choice(pairs)]
        if self.rng.random() < 0.03:
            pairs = self.rng.sample(pairs, len(pairs) - 1)
        if self.rng.random() < 0.03:
            pairs = [*pairs, (self.rng.choice(self.fields), self._json(2))]
        return ("{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}").encode()

    def _metadata(self) -> str:
        names = self.rng.sample(self.fields, self.rng.randrange(0, 6))
        plain = self.rng.random() < 0.4
        return self._object(
            [(name, '"Bach"' if plain else self._json(2)) for name in names] or [("title", '"t"')]
        ).decode()

    def _embedding(self, *, odd: bool) -> str:
        numbers = [f"{self.rng.gauss(0, 1):.4f}" for _ in range(DIMENSION)]
        if not odd:
            if self.rng.random() < 0.2:
                packed = struct.pack(f"<{DIMENSION}f", *map(float, numbers))
                return f'{{"dtype": "float32", "data": "{base64.b64encode(packed).decode()}"}}'
            return "[" + ", ".join(numbers) + "]"
        numbers[self.rng.randrange(DIMENSION)] = self._json(1)
        whole = "[" + ", ".join(numbers) + "]"
        dtype, data = (
            self._one_of('"float32"', '"float16"', odd=0.3),
            self._one_of('"AACAPwAAAEA="', '"AAAA"', odd=0.3),
        )
        packed = f'{{"dtype": {dtype}, "data": {data}}}'
        return self.rng.choice(
            (whole, whole, packed, self._json(2), "[0, 0, 0, 0]", "[1, 2]", "[]", "[[1, 2, 3, 4]]")
        )

    def _moment(self) -> str:
        if self.rng.random() < 0.3:
            return '"2026-02-03T04:05:06Z"'
        return f'"{self.rng.choice(MOMENTS)}"' if self.rng.random() < 0.9 else self._json(1)

    def _json(self, depth: int) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return self.rng.choice(TEXTS)
        if draw < 0.7 or not depth:
            return self.rng.choice(NUMBERS)
        if draw < 0.8:
            return self.rng.choice(("null", "true", "false", "[]", "{}"))
        if draw < 0.82:
            levels = self.rng.choice((15, 16, 17, 500, 1_100, 3_000))
            return "[" * levels + "]" * levels
        items = [self._json(depth - 1) for _ in range(self.rng.randrange(1, 4))]
        if draw < 0.9:
            return "[" + ", ".join(items) + "]"
        return self._object([(self.rng.choice(self.fields), item) for item in items]).decode()

    def _one_of(self, *usual: str, odd: float) -> str:
        return self._json(1) if self.rng.random() < odd else self.rng.choice(usual)

    def _headers(self) -> Headers:
        names = (
            "traceparent", "tracestate", "mess.error", "mess.source.topic", "mess.source.offset", "mess.failed_at",
            "mess.left_out_bytes", "", "ü", "a" * 1_000, RawName("\xff\xfename"), RawName("ol\xe9"),
        )  # fmt: skip
        values = (
            b"",
            None,
            b"\xff",
            b"9" * 5_000,
            b"0001-01-01T00:00:00+14:00",
            b"track-ingest",
            b"-1",
            b"\x00",
            b"x" * 300,
        )
        return [(self.rng.choice(names), self.rng.choice(values)) for _ in range(self.rng.randrange(1, 4))]


def _unescaped(name: str) -> bytes:
    """The bytes of an id that is written as JSON has it."""
    text = name.replace('\\"', '"').replace("\\\\", "\\")
    if "\\u" in text:
        text = text.encode("ascii", "surrogatepass").decode("unicode_escape") if text.isascii() else text
    return text.replace("\\n", "\n").encode()

"""Rate limits: rates such as `100/minute`, enforced by the generic cell rate algorithm (GCRA)."""

import ipaddress
import math
import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

_RATE: Final = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
# Callers that are remembered; one that is evicted has its whole allowance again.
MAX_CALLERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class RequestRate:
    """A number of requests per time; all of them may come at once.

    Attributes:
        requests: The number of requests.
        seconds: The time in seconds.
    """

    requests: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "RequestRate":
        """Read `100/minute`; also second, hour and day.

        Raises:
            ValueError: It is something else.
        """
        matched = _RATE.fullmatch(text)
        if matched is None:
            raise ValueError(f"{text!r} is no rate such as 20/second, 100/minute, 5000/hour or 100000/day")
        return cls(int(matched[1]), _SECONDS[matched[2]])

    def __str__(self) -> str:
        return f"{self.requests}/{next(name for name, each in _SECONDS.items() if each == self.seconds)}"


@dataclass(frozen=True, slots=True)
class RateDecision:
    """The decision about one request.

    Attributes:
        allowed: Whether it is within the rate.
        remaining: Requests that may follow at once.
        reset: Seconds until the whole allowance is there again.
        retry_after: Seconds until another request is allowed; 0 if this one was.
    """

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class RateLimiter:
    """Counts requests by caller, in this process.

    A caller costs one number: the theoretical arrival time of its next request (ITU-T I.371). After a pause the whole
    allowance may come at once; then requests pass at the rate itself. There is no window whose end callers wait for.

    Args:
        callers: Maximum number of callers remembered, the most recent ones.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, callers: int = MAX_CALLERS, clock: Callable[[], float] = time.monotonic) -> None:
        self._paid_off: LRUCache[Hashable, float] = LRUCache(callers)
        self._clock = clock

    def take(self, caller: Hashable, rate: RequestRate) -> RateDecision:
        """Count one request of `caller`, unless it is over `rate`."""
        now = self._clock()
        each = rate.seconds / rate.requests
        before = max(self._paid_off.get(caller, now), now)
        after = before + each
        if (excess := after - now - rate.seconds) > each * 1e-6:
            return RateDecision(False, 0, before - now, excess)
        self._paid_off[caller] = after
        remaining = int((rate.seconds - (after - now)) / each + 1e-6)
        return RateDecision(True, remaining, after - now, 0.0)


def rate_headers(rate: RequestRate, taken: RateDecision) -> list[tuple[bytes, bytes]]:
    """The headers `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers."""
    return [
        (b"ratelimit-policy", b'"default";q=%d;w=%d' % (rate.requests, rate.seconds)),
        (b"ratelimit", b'"default";r=%d;t=%d' % (taken.remaining, math.ceil(taken.reset))),
    ]


def caller_at(address: str | None) -> str:
    """The caller behind an address: the address, or its /64 in IPv6, where one caller has any number of addresses."""
    if address is None or ":" not in address:
        return address or ""
    try:
        ip = ipaddress.IPv6Address(address.split("%", 1)[0])
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))

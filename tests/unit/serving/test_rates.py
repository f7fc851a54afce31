"""Rates: what they let through, when, and of whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rates import RateLimiter, RequestRate, caller_at, rate_headers

pytestmark = pytest.mark.unit


class Clock:
    """A clock that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_whole_allowance_may_come_at_once_and_then_no_more() -> None:
    """Of a hundred a minute, a hundred pass in one moment; the next one is told when to come, and passes then."""
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    rate = RequestRate(100, 60)
    taken = [limiter.take("a", rate) for _ in range(100)]
    assert [each.remaining for each in taken] == list(range(99, -1, -1))
    assert all(each.allowed for each in taken)
    refused = limiter.take("a", rate)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(0.6)
    clock.now += refused.retry_after
    assert limiter.take("a", rate).allowed
    assert not limiter.take("a", rate).allowed
    assert limiter.take("b", rate).remaining == 99


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=300))
def test_no_window_lets_more_than_two_allowances_through(requests: int, pauses: list[float]) -> None:
    """Whenever requests come, within any period pass at most the allowance and what the period pays off."""
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    rate = RequestRate(requests, 10)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        if limiter.take("a", rate).allowed:
            passed.append(clock.now)
    for start in passed:
        assert sum(start <= moment < start + 10 for moment in passed) <= 2 * requests


def test_only_so_many_callers_are_remembered() -> None:
    """Memory has a bound: the caller that asked longest ago is forgotten first."""
    limiter = RateLimiter(callers=2, clock=Clock())
    rate = RequestRate(1, 60)
    assert [limiter.take(caller, rate).allowed for caller in "abcb"] == [True, True, True, False]
    assert limiter.take("a", rate).allowed


@pytest.mark.parametrize(
    "text", ["", "0/second", "10", "10/fortnight", "-1/minute", "1.5/second", "10/ second"]
)
def test_other_rates_are_refused(text: str) -> None:
    """What is no rate is an error that shows what one looks like."""
    with pytest.raises(ValueError, match="100/minute"):
        RequestRate.parse(text)


def test_rates_and_headers_read_as_written() -> None:
    """A rate prints as it was given, and the headers have its figures."""
    rate = RequestRate.parse("100/minute")
    assert str(rate) == "100/minute"
    taken = RateLimiter(clock=Clock()).take("a", rate)
    assert rate_headers(rate, taken) == [
        (b"ratelimit-policy", b'"default";q=100;w=60'),
        (b"ratelimit", b'"default";r=99;t=1'),
    ]


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
        ("unix:", "unix:"),
    ],
)
def test_one_caller_is_one_network_in_ipv6(address: str | None, caller: str) -> None:
    """Addresses of one /64 are one caller, who has all of them."""
    assert caller_at(address) == caller

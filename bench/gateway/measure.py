"""Rounds: every side does every work in turn, each time another one first, and medians are taken over the rounds.

What a gateway adds is its own figure less that of the upstream alone in the same round.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.gateway.load import Found, Work, quantile
from bench.gateway.processes import cpu_s, memory_mb
from bench.gateway.side import DIRECT, Clients, Side

LATENCIES = ("whole", "first token", "each token")
RATES = ("requests/s", "tokens/s")
LOG_WAIT_S = 15.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Latency: so many `requests` one after the other, and so many paced streams, `streams` at
    once. Throughput: for `for_s` with each of `at_once` connections."""

    rounds: int
    requests: int
    paced: int
    streams: int
    at_once: tuple[int, ...]
    for_s: float
    tokens: int = 16
    paced_tokens: int = 24
    stream_tokens: int = 64


QUICK = Size(rounds=3, requests=200, paced=16, streams=4, at_once=(8, 32), for_s=2.0)
FULL = Size(rounds=7, requests=300, paced=48, streams=4, at_once=(1, 8, 32), for_s=3.0)

Figures = Mapping[str, float]
"""By name; latencies in ms, CPU in ms, memory in MB."""
Counted = dict[str, int]


def measure(sides: Sequence[Side], clients: Clients, size: Size) -> tuple[dict[str, list[Figures]], Counted]:
    """The figures of each side, round by round, and how many requests each has answered."""
    order, found = list(sides), {side.name: list[Figures]() for side in sides}
    counted: Counted = {side.name: 0 for side in sides}

    def ask(side: Side, work: Work) -> Found:
        done = clients.run(side, work)
        counted[side.name] += done.requests
        return done

    for side in sides:  # connections, caches, imports: nobody pays for the first requests
        for is_stream in (False, True):
            ask(side, Work(4, 100, tokens=size.tokens, is_stream=is_stream))
    for _ in range(size.rounds):
        figures = {side.name: dict[str, float]() for side in order}
        for part in (_whole, _paced, _throughput):
            for side in order:
                figures[side.name].update(part(partial(ask, side), side, size))
        for name, one in figures.items():
            found[name].append(one)
        order.append(order.pop(0))
    return found, counted


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of each figure."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def added(rounds: Mapping[str, Sequence[Figures]], name: str) -> Figures:
    """What the side `name` adds to each latency of the upstream alone: the median of the rounds' differences."""
    pairs = list(zip(rounds[name], rounds[DIRECT], strict=True))
    names = [one for one in rounds[name][0] if one.startswith(LATENCIES)]
    return {one: statistics.median(side[one] - direct[one] for side, direct in pairs) for one in names}


def is_logged(side: Side, answers: int) -> bool:
    """Whether the log of `side` has every one of `answers`, a while after the last."""
    give_up_s = time.monotonic() + LOG_WAIT_S
    while side.logged is not None and side.logged() < answers:
        if time.monotonic() > give_up_s:
            return False
        time.sleep(POLL_S)
    return True


Ask = Callable[[Work], Found]


def _whole(ask: Ask, _: Side, size: Size) -> Figures:
    """One request after the other."""
    done = ask(Work(1, size.requests, tokens=size.tokens))
    return _quantiles("whole", done.whole_ms)


def _paced(ask: Ask, _: Side, size: Size) -> Figures:
    """Streams at the pace of a model, so few that nobody is busy."""
    done = ask(Work(size.streams, size.paced, tokens=size.paced_tokens, is_stream=True, is_paced=True))
    return {**_quantiles("first token", done.first_ms), **_quantiles("each token", done.token_ms)}


def _throughput(ask: Ask, side: Side, size: Size) -> Figures:
    """As many as go through, and what they take."""
    figures: dict[str, float] = {}
    for at_once in size.at_once:
        before_s = _cpu_s(side)
        done = ask(Work(at_once, 1_000_000, size.for_s, size.tokens))
        figures[f"requests/s, {at_once} at once"] = done.requests_s
        if side.pid is not None:
            figures[f"CPU ms a request, {at_once} at once"] = 1000 * (_cpu_s(side) - before_s) / done.requests
    before_s = _cpu_s(side)
    done = ask(Work(size.at_once[-1], 1_000_000, size.for_s, size.stream_tokens, is_stream=True))
    figures["tokens/s, streamed"] = done.tokens_s
    if side.pid is not None:
        figures["CPU ms a token"] = 1000 * (_cpu_s(side) - before_s) / len(done.token_ms)
        figures["memory MB"] = memory_mb(side.pid)
    return figures


def _cpu_s(side: Side) -> float:
    return 0.0 if side.pid is None else cpu_s(side.pid)


def _quantiles(name: str, values: Sequence[float]) -> Figures:
    return {f"{name} p{round(100 * q)} ms": quantile(values, q) for q in (0.5, 0.99)}

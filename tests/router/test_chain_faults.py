"""A thousand requests against pools that fail in every way at once: each ends in an answer or a typed error."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from replicas.cloud.errors import CloudBroken, CloudBusy, CloudDenied, CloudRefused
from replicas.engine import Finish
from replicas.errors import ContextOverflow, EngineFailed, InvalidRequest, Overloaded, ShoalError
from router.chain.backend import Asked, Link
from router.chain.bar import Bar
from router.chain.breaker import State
from router.chain.chain import Chain
from tests.router.chains import Scripted, Step, Told, chain, chunk, end, saying, skipping, told
from tests.router.test_chain_gate import REFUSAL, call

REQUESTS = 1000
POOLS = ("local", "near", "far")
PRICES_USD = {"local": 0.0, "near": 0.002, "far": 0.01}
CENTS = 1_000_000  # millionths of a dollar: whole numbers add up exactly

Fault = Callable[[str, random.Random], list[Step]]
FAULTS: dict[str, Fault] = {
    "none": lambda pool, _: saying("well ", "said by ", pool),
    "slow first byte": lambda pool, chance: [[], chance.uniform(1.0, 40.0), *saying("late by ", pool)],
    "slow tokens": lambda pool, _: [[], *(step for _ in range(9) for step in (2.0, [chunk(pool)])), [end()]],
    "silence": lambda _, __: [[], 1e6],
    "silence in the middle": lambda _, __: [[], [chunk("he")], 1e6],
    "no admission": lambda _, __: [1e6],
    "429": lambda pool, chance: [CloudBusy(pool, "slow down", 429, chance.uniform(0.1, 20.0))],
    "529": lambda pool, _: [CloudBusy(pool, "overloaded", 529, None)],
    "full queue": lambda pool, chance: [Overloaded(pool, chance.uniform(0.5, 5.0))],
    "500": lambda pool, _: [CloudBroken(pool, "HTTP 500")],
    "401": lambda pool, _: [CloudDenied(pool, "HTTP 401")],
    "400": lambda pool, _: [CloudRefused(pool, "no such field", 400, "{}")],
    "too long": lambda _, __: [ContextOverflow(9000, 8192)],
    "reset": lambda _, __: [[], EngineFailed("connection reset")],
    "cut after content": lambda pool, _: [[], [chunk("he")], CloudBroken(pool, "cut")],
    "no end": lambda _, __: [[], [chunk("he")]],
    "nothing": lambda _, __: [],
    "error in a 200": lambda pool, _: [[], [end(Finish.ERROR, CloudBroken(pool, "inside"))]],
    "error after content": lambda pool, _: [[chunk("he")], [end(Finish.ERROR, CloudBroken(pool, "inside"))]],
    "replica shut down": lambda _, __: [[], [end(Finish.CANCELLED)]],
    "goes on after its end": lambda pool, _: [[chunk(pool), end(), chunk("more")], [end()]],
    "refusal": lambda _, __: saying(REFUSAL),
    "wrong request": lambda _, __: [InvalidRequest("top_p: from 0 to 1", "top_p")],
}


@dataclass
class Storm:
    """The pools' state of health, request by request, and what became of the requests."""

    shared: Chain
    chance: random.Random
    backends: list[tuple[str, Scripted]] = field(default_factory=list)
    ended: list[Told] = field(default_factory=list)

    def link(self, pool: str, number: int) -> Link:
        """The pool as one request finds it. From a third of the way on, `near` is down for a while."""
        is_down = pool == "near" and REQUESTS // 3 <= number < REQUESTS // 2
        names = ["500"] if is_down else self.chance.choices(list(FAULTS), [40, *[1] * (len(FAULTS) - 1)], k=3)
        backend = Scripted([FAULTS[name](pool, self.chance) for name in names], PRICES_USD[pool])
        self.backends.append((pool, backend))
        gate = Bar(refusals=True, repetition=True).gate(call()) if pool == "local" else None
        return Link(pool, backend, gate, patience_s=15.0)

    async def request(self, number: int) -> None:
        """One request; some of them hedged."""
        await asyncio.sleep(number * 0.5)
        links = tuple(self.link(pool, number) for pool in self.chance.sample(POOLS, self.chance.choice((1, 2, 3, 3))))
        hedge_after_s = 3.0 if number % 4 == 0 else None
        self.ended.append(await told(Asked(links, 60.0, hedge_after_s), self.shared))


@pytest.fixture(scope="module")
def storm_and_registry() -> tuple[Storm, CollectorRegistry]:
    registry = CollectorRegistry()

    async def test() -> Storm:
        storm = Storm(chain(registry=registry), random.Random(11))
        await asyncio.gather(*(storm.request(number) for number in range(REQUESTS)))
        return storm

    return skipping(test()), registry


@pytest.fixture
def storm(storm_and_registry: tuple[Storm, CollectorRegistry]) -> Storm:
    return storm_and_registry[0]


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def test_each_request_ends_in_an_answer_or_a_typed_error_and_in_time(storm: Storm) -> None:
    kinds = Counter("answer" if one.error is None else type(one.error).__name__ for one in storm.ended)
    assert sum(kinds.values()) == REQUESTS
    assert kinds["answer"] > REQUESTS / 2
    assert len(kinds) >= 6  # the storm was one
    assert all(
        (one.error is None) == bool(one.lists and one.lists[-1] and one.lists[-1][-1].final) for one in storm.ended
    )
    assert all(tried.wall_s <= 60.0 + 1e-6 for one in storm.ended for tried in one.run.tries)


def test_each_answer_is_of_one_pool_alone(storm: Storm) -> None:
    for one in storm.ended:
        said = [piece for chunks in one.lists for piece in chunks]
        assert sum(piece.final is not None for piece in said) == (one.error is None)
        spoken = "".join(piece.text for piece in said)
        assert [pool for pool in POOLS if pool in spoken] in ([], [one.run.answered_by])
        assert bool(spoken) <= (one.run.answered_by is not None)


def test_no_failed_try_has_let_out_a_byte(storm: Storm) -> None:
    for one in storm.ended:
        opened = [tried for tried in one.run.tries if tried.first_content_s is not None]
        assert len(opened) == (one.run.answered_by is not None)
        assert all(tried.pool == one.run.answered_by for tried in opened)


def test_a_refusal_goes_out_only_where_nobody_else_answered(storm: Storm) -> None:
    gated = [one for one in storm.ended if any(tried.reason == "rejected" for tried in one.run.tries)]
    assert len(gated) >= 5
    for one in gated:
        assert one.run.is_degraded or one.error is not None or one.run.answered_by != "local"


def test_every_ask_is_accounted_for_once_and_every_stream_is_closed(
    storm_and_registry: tuple[Storm, CollectorRegistry],
) -> None:
    storm, registry = storm_and_registry
    tries = [tried for one in storm.ended for tried in one.run.tries]
    for pool in POOLS:
        asked = sum(len(backend.asks) for name, backend in storm.backends if name == pool)
        left_alone = sum(tried.pool == pool and tried.reason == "open" for tried in tries)
        assert sum(tried.pool == pool for tried in tries) == asked + left_alone
        assert total(registry, "shoal_chain_tries_total", pool=pool) == asked + left_alone
    assert all(backend.open == 0 for _, backend in storm.backends)
    assert total(registry, "shoal_chain_answers_total") == REQUESTS


def test_every_millionth_of_a_dollar_is_accounted_for(storm_and_registry: tuple[Storm, CollectorRegistry]) -> None:
    storm, registry = storm_and_registry
    spent = sum(len(backend.asks) * round(backend.price_usd * CENTS) for _, backend in storm.backends)
    assert sum(round(tried.cost_usd * CENTS) for one in storm.ended for tried in one.run.tries) == spent
    assert round(total(registry, "shoal_chain_cost_usd_total") * CENTS) == spent


def test_the_breaker_of_a_pool_that_was_down_opened_and_closed_again(
    storm_and_registry: tuple[Storm, CollectorRegistry],
) -> None:
    storm, registry = storm_and_registry
    moves = {state: total(registry, "shoal_breaker_changes_total", pool="near", state=state) for state in State}
    assert moves[State.OPEN] >= 1
    assert moves[State.CLOSED] >= 1
    assert moves[State.HALF_OPEN] >= moves[State.CLOSED]
    others = [one for one in storm.ended if one.reasons[0] == ("near", "open") and len(dict(one.reasons)) > 1]
    assert len(others) > 50
    assert sum(one.error is None for one in others) > 0.6 * len(others)


def test_the_storm_has_every_fault_in_it(storm: Storm) -> None:
    reasons = Counter(tried.reason.value for one in storm.ended for tried in one.run.tries)
    assert {*reasons} >= {
        "answered",
        "broken",
        "busy",
        "denied",
        "unfit",
        "invalid",
        "late",
        "open",
        "rejected",
        "beaten",
    }
    assert all(isinstance(one.error, ShoalError | None) for one in storm.ended)

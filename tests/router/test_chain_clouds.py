"""Chains of real clouds over sockets, in both protocols: the scripted upstream misbehaves, real clients ask it."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from replicas.cloud.answer import Cloud, Spent
from replicas.cloud.errors import CloudBroken
from replicas.cloud.release import CloudKind, Draft
from replicas.errors import Withheld
from router.chain.backend import Asked, Link
from router.chain.backoff import Retries
from router.chain.breaker import Limits
from router.chain.chain import Chain
from router.chain.cloud import OFF_LOOP_BYTES, CloudBackend
from router.chain.failure import Reason
from router.privacy.guard import Guard, Marking
from tests.cluster.upstream.played import QUESTION, Played, playing
from tests.replicas.clouds import KINDS, PATHS, cloud, endpoint, question
from tests.router.chains import Told, link, saying, scripted, told

QUICK = Retries(times=2, base_s=0.001, cap_s=0.5, elsewhere_s=0.5)
SECRET = "jane.doe@acme-harbour.com"
NOBODY_SAYS = Marking("x")


def price(spent: Spent) -> float:
    """One dollar a token: enough to see that it is counted."""
    return float(spent.usage.prompt + spent.usage.generated)


def draft(kind: CloudKind, text: str = QUESTION) -> Draft:
    """A question as a cloud of `kind` would get it."""
    return Draft("x", kind, json.dumps(question(kind, messages=[{"role": "user", "content": text}])).encode())


def went(played: Played, kind: CloudKind, *others: Link, marking: Marking = NOBODY_SAYS, text: str = QUESTION) -> Told:
    """What comes of a request to the upstream and then to `others`."""

    async def test() -> Told:
        async with asking(kind, played) as far:
            first = Link("far", CloudBackend(far, draft(kind, text), Guard(), marking, price))
            return await told(Asked((first, *others), 20.0, retries=QUICK), Chain(CollectorRegistry()))

    return asyncio.run(test())


@asynccontextmanager
async def asking(kind: CloudKind, played: Played) -> AsyncIterator[Cloud]:
    """A real client of the upstream."""
    far = cloud(kind, endpoint(played.url + PATHS[kind]))
    try:
        yield far
    finally:
        await far.close()


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Iterator[Played]:
    with playing(getattr(request, "param", "")) as played:
        yield played


@pytest.mark.parametrize("kind", KINDS)
def test_a_cloud_answers_and_what_it_cost_is_known(kind: CloudKind, upstream: Played) -> None:
    found = went(upstream, kind)
    usage = found.answer.final.usage
    assert (found.answer.text, found.run.answered_by) == (QUESTION, "far")
    assert found.run.tries[0].cost_usd == usage.prompt + usage.generated > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upstream", ["faults: [500]"], indirect=True)
def test_a_cloud_that_fails_is_asked_again_and_then_left(kind: CloudKind, upstream: Played) -> None:
    found = went(upstream, kind, link("near", saying("near")))
    assert (found.answer.text, len(upstream.entries())) == ("near", 1 + QUICK.times)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upstream", ["faults: [{kind: cut, after_tokens: 4}]"], indirect=True)
def test_a_cloud_that_breaks_off_after_its_first_words_is_not_replaced(kind: CloudKind, upstream: Played) -> None:
    near = link("near", saying("near"))
    found = went(upstream, kind, near)
    said = "".join(chunk.text for chunks in found.lists for chunk in chunks)
    assert (QUESTION.startswith(said), bool(said), type(found.error)) == (True, True, CloudBroken)
    assert scripted(near).asks == []


PRIVATE = [
    (Marking("x", ("header",)), "nothing in it"),
    (Marking("x"), f"write to {SECRET}"),
    (Marking("x"), f"write to {SECRET} " + "and so on " * OFF_LOOP_BYTES),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("marking", "text"), PRIVATE, ids=["marked", "found", "found in a long one"])
def test_what_is_private_is_answered_here_or_not_at_all(
    kind: CloudKind, marking: Marking, text: str, upstream: Played
) -> None:
    found = went(upstream, kind, link("near", saying("near")), marking=marking, text=text)
    assert (found.answer.text, found.run.tries[0].why) == ("near", "unfit: Withheld")
    assert isinstance(went(upstream, kind, marking=marking, text=text).error, Withheld)
    assert upstream.entries() == []


FAULTS = ("{kind: status, status: 429, retry_after_ms: 20", *(f"{{kind: status, status: {n}" for n in (500, 503, 529)))
FAULTS += ("{kind: reset", "{kind: html", "{kind: malformed", "{kind: error_event", "{kind: cut", "{kind: duplicates")
STORM = "seed: 5\nfaults:\n" + "".join(f"  - {fault}, probability: 0.05}}\n" for fault in FAULTS)
REQUESTS = 150


def test_under_every_fault_each_request_ends_and_each_one_that_left_is_accounted_for() -> None:
    shared = Chain(CollectorRegistry(), Limits(failures=1000), chance=random.Random(3))

    async def test(first: Played, second: Played) -> list[Told]:
        async with asking("anthropic", first) as one, asking("openai", second) as other:
            far: dict[CloudKind, Cloud] = {"anthropic": one, "openai": other}
            guard, gate = Guard(), asyncio.Semaphore(8)

            async def ask(order: list[CloudKind]) -> Told:
                backends = [(kind, CloudBackend(far[kind], draft(kind), guard, NOBODY_SAYS, price)) for kind in order]
                async with gate:
                    return await told(Asked(tuple(Link(*link) for link in backends), 30.0, retries=QUICK), shared)

            return await asyncio.gather(*(ask(KINDS if number % 2 else KINDS[::-1]) for number in range(REQUESTS)))

    with playing(STORM) as first, playing(STORM) as second:
        ended = asyncio.run(test(first, second))
        sent = {"anthropic": len(first.entries()), "openai": len(second.entries())}
    tries = [tried for one in ended for tried in one.run.tries]
    assert Counter(tried.pool for tried in tries if tried.reason is not Reason.OPEN) == sent
    assert {tried.reason for tried in tries} >= {Reason.ANSWERED, Reason.BROKEN, Reason.BUSY}
    assert all(one.error is not None or one.answer.text == QUESTION for one in ended)
    assert sum(one.error is None for one in ended) > 0.7 * REQUESTS

"""Five hundred private requests, each with a canary in it, beside public ones, while the clouds fail in every way: no
canary is in a byte that left, in a log, on the page of metrics, or in the store that all tenants share.

They are marked by their header, by their tenant, by a rule, or found out; in both dialects, as chats and as bare texts,
streamed and whole, for one answer and for several, along every way to a cloud that there is: fallbacks, gates, judges,
hedges, names, policies, experiments, counts, embeddings.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

import httpx
import pytest

from deployments.plan import AppPlan
from replicas.engine import Engine
from replicas.errors import EngineFailed
from router.chain.backoff import Retries
from router.chain.bar import Bar
from router.chain.breaker import Limits
from router.chain.judge import Judging
from router.chain.terms import Terms
from router.experiments.experiment import Experiment, Variant
from router.journal.archive import Archive, Retention
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import Rule
from router.store import StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.far import CLAUDE, GPT, far
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import ECHO, echo
from tests.deployments.test_edge_storm import FAULTS

REQUESTS = 250  # with a local model that works, and as many with one that does not
AT_ONCE = 8
STORM = "seed: 5\nfaults:\n" + "".join(
    f"  - {{{fault}, probability: 0.04}}\n" for fault in FAULTS if "s: 1" not in fault
)
POOR, JUDGED = Terms(Bar(least_characters=10_000)), Terms(Bar(), Judging(GPT))
WAYS: dict[str, tuple[tuple[str, ...], Terms]] = {
    "fallback": (("echo", CLAUDE), Terms()),
    "cloud first": ((CLAUDE, GPT, "echo"), Terms(patience_s=0.5)),
    "clouds alone": ((CLAUDE, GPT), Terms()),
    "gate": (("echo", GPT), POOR),
    "judge": (("echo", CLAUDE), JUDGED),
    "judge of local ones": (("echo", "tiny"), JUDGED),
    "hedge": (("echo", CLAUDE), Terms(hedge_after_s=0.001)),
}
EXPERIMENT = Experiment("clouds", (Variant("here"), Variant("there", sends=Rule("there", to=(CLAUDE,)))))
PLACES = ("text", "system", "tool", "stop", "earlier turn", "blocks", "nested", "user")
COUNT, EMBED, BARE = "/v1/messages/count_tokens", "/v1/embeddings", "/v1/completions"
PATHS = (MESSAGES, CHAT, BARE) * 2 + (COUNT, EMBED)
MARKS = ("header", "tenant", "rule", "detector")


def ruled(plan: AppPlan) -> AppPlan:
    """A rule for each way, and one more for each that marks what takes it private."""
    rules = [
        Rule(f"{name}{mark}", one("role", Like((frozenset({f"{name}{mark}"}),))), to, None, bool(mark), terms)
        for name, (to, terms) in WAYS.items()
        for mark in ("", " marked")
    ]
    retries, never = Retries(1, 0.01, 0.1, 0.05), Limits(10_000)  # no cloud is left alone: each could get a canary
    routing = replace(plan.routes, rules=tuple(rules), retries=retries, breaker=never, policy="prefer-cloud")
    clouds = tuple(replace(cloud, at=replace(cloud.at, quiet_s=1.0)) for cloud in plan.clouds)
    http = replace(plan.http, request_deadline_s=5.0)
    return replace(plan, routing=routing, clouds=clouds, http=http, experiments=(EXPERIMENT,))


@dataclass
class Tenant:
    """A key, and the store's view of it."""

    secret: str
    stored: StoredKey


def tenant(*, is_private: bool) -> Tenant:
    id_ = new_id()
    secret, digest = created(id_)
    return Tenant(secret, StoredKey(Key(id_, "tenant", 1.0, frozenset(Scope), is_private=is_private), digest))


OPEN, CLOSED = tenant(is_private=False), tenant(is_private=True)


@dataclass(frozen=True)
class Asked:
    """One private request; what it is like is drawn, each of it by itself."""

    number: int
    run: str
    mark: str
    way: str
    path: str
    place: str
    model: str
    is_stream: bool
    choices: int

    @classmethod
    def drawn(cls, number: int, run: str) -> "Asked":
        draw = Random(number)
        mark, way, place = (draw.choice(names) for names in (MARKS, [*WAYS, "a name", "a policy"], PLACES))
        path, model = draw.choice(PATHS), draw.choice((CLAUDE, GPT))
        is_stream, choices = draw.random() < 0.4, draw.choice((1, 1, 3))
        if path == EMBED:
            model = draw.choice((GPT, "echo"))
        return cls(number, run, mark, way, path, place, model, is_stream, choices)

    @property
    def canary(self) -> str:
        return f"canary{self.run}{self.number:04d}x"

    @property
    def is_left_open(self) -> bool:
        """Rules decide, and see it."""
        return self.way in WAYS and self.path not in (EMBED, COUNT)

    @property
    def headers(self) -> dict[str, str]:
        key = CLOSED if self.mark == "tenant" else OPEN
        role = f"{self.way} marked" if self.mark == "rule" and self.is_left_open else self.way
        # A rule cannot mark what it does not see.
        is_marked = self.mark == "header" or (self.mark == "rule" and not self.is_left_open)
        mark = {"x-shoal-private": "1"} if is_marked else {}
        return {"x-api-key": key.secret, "x-shoal-role": role, "x-claude-code-session-id": self.canary, **mark}

    def send(self, client: httpx.Client) -> httpx.Response:
        secret = f"jane.{self.canary}@acme-harbour.com" if self.mark == "detector" else f"the secret {self.canary}"
        return client.post(self.path, json=self._tree(secret), headers=self.headers)

    def _tree(self, secret: str) -> dict[str, object]:
        if self.path == EMBED:
            return {"model": self.model, "input": [secret, "and more"]}
        if self.path == COUNT:
            named = {"metadata": {"user_id": secret}} if self.place == "user" else {}
            said = "hello" if named else secret
            return {"model": CLAUDE, "messages": [{"role": "user", "content": said}], **named}
        asked = {"model": self.model if self.way == "a name" else "auto", "stream": self.is_stream}
        if self.path == MESSAGES:
            return {**body("hello"), **asked, **_placed(self.place, secret, is_chat=False)}
        asked["n"] = self.choices
        if self.path == CHAT:
            return {**body("hello"), **asked, **_placed(self.place, secret, is_chat=True)}
        field: dict[str, object] = {"user": secret} if self.place == "user" else {"prompt": secret}
        stop: dict[str, object] = {"stop": [secret]}
        return {"prompt": "hello", "max_tokens": 50, **asked, **(stop if self.place == "stop" else field)}


def _placed(place: str, secret: str, *, is_chat: bool) -> dict[str, object]:
    """The fields of a body that has `secret` in a `place`."""
    user: dict[str, object] = {"role": "user", "content": "hello"}
    if place == "system":
        turn = {"role": "system", "content": secret}
        return {"messages": [turn, user]} if is_chat else {"system": secret}
    if place == "tool":
        schema = {"type": "object", "properties": {"at": {"type": "string", "description": secret}}}
        chat = {"type": "function", "function": {"name": "look", "parameters": schema}}
        return {"tools": [chat if is_chat else {"name": "look", "input_schema": schema}]}
    if place in ("user", "stop"):
        named: dict[str, object] = {"user": secret} if is_chat else {"metadata": {"user_id": secret}}
        return named if place == "user" else {"stop" if is_chat else "stop_sequences": [secret]}
    if place == "earlier turn":
        return {"messages": [{"role": "user", "content": secret}, {"role": "assistant", "content": "so?"}, user]}
    if place == "nested":
        return {"messages": [{"role": "user", "content": json.dumps({"a": json.dumps({"b": secret})})}]}
    content = [{"type": "text", "text": "as I said, "}, {"type": "text", "text": secret}]
    return {"messages": [{"role": "user", "content": secret if place == "text" else content}]}


class Lines(logging.Handler):
    """Every line that anything logs, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def listening() -> Iterator[list[str]]:
    root, lines = logging.getLogger(), Lines()
    before = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    try:
        yield lines.lines
    finally:
        root.removeHandler(lines)
        root.setLevel(before)


@dataclass
class Flight:
    """What came of a run: `left` every byte that the clouds got, `kept` every byte of the store."""

    requests: list[Asked]
    answers: list[httpx.Response]
    others: list[httpx.Response]
    left: bytes
    logged: list[str]
    page: str
    kept: bytes


def flown(run: str, engine: Engine, folder: Path) -> Flight:
    """Every private request, and a public one beside each third."""
    store = open_store(StoreAddress.of_file(folder / "shoal.sqlite"))
    lost: list[int] = []
    archive = Archive(store, Retention(30.0), lost.append)
    keyring = Keyring(lambda: [OPEN.stored, CLOSED.stored])
    requests = [Asked.drawn(number, run) for number in range(REQUESTS)]
    with (
        listening() as logged,
        far(STORM, keyring=keyring, changed=ruled, archive=archive, echo=[engine]) as edge,
        httpx.Client(base_url=edge.served.url, timeout=60) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def public(number: int) -> httpx.Response:
            tree = body("nothing private", model=(CLAUDE, GPT)[number % 2], stream=number % 4 > 1)
            return client.post((MESSAGES, CHAT)[number % 2], json=tree, headers={"x-api-key": OPEN.secret})

        answers = [pool.submit(request.send, client) for request in requests]
        others = [pool.submit(public, number) for number in range(REQUESTS // 3)]
        told = [future.result() for future in answers], [future.result() for future in others]
        page = client.get("/metrics", headers={"x-api-key": OPEN.secret}).text
        left = b"".join(bytes(entry.raw) for entry in edge.upstream.entries())
    store.close()
    kept = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    assert lost == []
    return Flight(requests, *told, left, logged, page, kept)


def broken() -> HandEngine:
    engine = HandEngine()
    engine.refusal = EngineFailed("it broke")
    return engine


@pytest.fixture(scope="module", params=["up", "down"])
def flight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Flight:
    engine = echo(ECHO) if request.param == "up" else broken()
    return flown(request.param, engine, tmp_path_factory.mktemp("flight"))


def test_no_canary_is_in_any_byte_that_left(flight: Flight) -> None:
    assert b"canary" not in flight.left.lower()


def test_the_clouds_could_be_reached_all_the_while(flight: Flight) -> None:
    """Else nothing above is shown."""
    assert flight.left.count(b"nothing private") > len(flight.others) / 2
    assert Counter(answer.status_code for answer in flight.others)[200] > len(flight.others) / 4


def test_no_canary_is_in_a_log_on_the_page_of_metrics_or_in_the_store(flight: Flight) -> None:
    assert [line for line in flight.logged if "canary" in line] == []
    assert flight.logged
    assert "canary" not in flight.page
    assert "shoal_chain_tries_total" in flight.page
    assert b"canary" not in flight.kept
    assert OPEN.stored.key.id.encode() in flight.kept
    assert CLOSED.stored.key.id.encode() in flight.kept


def test_private_requests_are_answered_here_or_refused_with_a_type(flight: Flight) -> None:
    statuses = Counter(answer.status_code for answer in flight.answers)
    assert set(statuses) <= {200, 403, 429, 500, 503}, statuses
    assert {answer.headers.get("x-shoal-model") for answer in flight.answers} <= {"echo", "tiny", None}
    refused = [answer for answer in flight.answers if answer.status_code != 200]
    assert all(answer.json()["error"]["message"] for answer in refused)
    assert all("canary" not in answer.text for answer in refused)
    assert {403} < set(statuses)


def test_every_mark_was_on_every_path_way_and_place_streamed_and_whole(flight: Flight) -> None:
    asked = flight.requests
    paths = {(one.mark, one.path, one.is_stream, one.choices > 1) for one in asked}
    assert paths >= set(product(MARKS, (CHAT, BARE), (True, False), (True, False)))
    assert {found[:3] for found in paths} >= set(product(MARKS, (MESSAGES,), (True, False)))
    assert {(one.mark, one.way) for one in asked if one.path not in (EMBED, COUNT)} == set(
        product(MARKS, [*WAYS, "a name", "a policy"])
    )
    assert {(one.mark, one.model) for one in asked if one.path == EMBED} == set(product(MARKS, (GPT, "echo")))
    assert {(one.mark, one.place) for one in asked if one.path in (MESSAGES, CHAT)} == set(product(MARKS, PLACES))
    assert {one.mark for one in asked if one.path == COUNT} == set(MARKS)
    assert {(one.mark, one.model) for one in asked if one.way == "a name"} >= set(product(MARKS, (CLAUDE, GPT)))
    reasons = {
        reason
        for answer in flight.answers
        for reason in ("header", "tenant", "rule", "email")
        if f"private;{reason}" in answer.headers.get("x-shoal-route", "")
    }
    assert reasons == {"header", "tenant", "rule", "email"} or flight.requests[0].run == "down"

"""A thousand requests through the service while its clouds fail in every way: each ends, each cent is accounted for.

The upstream notes what it charged for each request. Where it told that, the ledger has that very sum; where it broke
off or never told, the ledger has no less than it charged. Who was given up, as late, silent, or beaten by another, is
in the ledger too: with nothing only where the upstream's own record says that it refused, or never heard of it.
"""

import json
import re
import sqlite3
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from cluster.upstream.faults import AFTER_TOKENS
from cluster.upstream.ledger import Entry as Received
from cluster.upstream.ledger import Outcome
from cluster.upstream.tokens import count
from deployments.plan import AppPlan
from replicas.cloud.connection import wants_stream
from replicas.cloud.release import CloudKind, Draft
from replicas.engine import Usage
from router.budget import Budget, Budgets
from router.budget.budgets import Settlement
from router.budget.money import nano_of
from router.budget.tokens import most_tokens
from router.chain.backoff import Retries
from router.chain.breaker import Limits
from router.chain.terms import Terms
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import Rule
from router.store import Entry, StoreAddress, WriteBehind, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.far import CLAUDE, GPT, PRICE, far
from tests.deployments.served import ECHO

REQUESTS = 1000
AT_ONCE = 16
APART_S = 0.015
MOST_TOKENS = 100
LARGEST_NANO = 10**15
FAULTS = (
    "kind: status, status: 429, retry_after_ms: 20",
    *(f"kind: status, status: {status}" for status in (400, 401, 500, 503, 529)),
    *(f"kind: {kind}" for kind in ("html", "reset", "silence", "cut", "unfinished", "error_event", "malformed")),
    *(f"kind: {kind}" for kind in ("wrong_content_type", "duplicates", "wrong_usage", "no_usage", "empty_calls")),
    "kind: reset, after_tokens: 2",
    "kind: slow_start, delay_s: 1.5",
    "kind: slow_tokens, delay_s: 0.01",
)
PRICED = "price: {input: 1.0, output: 5.0}"
STORM = f"seed: 11\nmodels: [{{id: claude-haiku-4-5, {PRICED}}}, {{id: gpt, {PRICED}}}]\nfaults:\n"
for name in ("claude-haiku-4-5", "gpt"):  # enough at a time to open the breakers
    STORM += f"  - {{kind: status, status: 500, skip: 100, times: 40, when: {{model: {name}}}}}\n"
    STORM += f"  - {{kind: silence, skip: 160, times: 8, when: {{model: {name}}}}}\n"
    for at, fault in enumerate(FAULTS):  # each strikes, however fast this machine is
        STORM += f"  - {{{fault}, skip: {3 * at}, times: 2, when: {{model: {name}}}}}\n"
STORM += "".join(f"  - {{{fault}, probability: 0.03}}\n" for fault in FAULTS)
UNTOLD = {"cut", "reset", "unfinished", "no_usage", "malformed"}
"""Faults after which nobody knows what the answer cost: the cloud has not told, or nobody could read it."""

PATIENT, HEDGED = Terms(patience_s=0.5), Terms(hedge_after_s=0.1)
WAYS: dict[str, tuple[tuple[str, ...], Terms]] = {
    "claude": ((CLAUDE, "echo"), PATIENT),
    "gpt": ((GPT, "echo"), PATIENT),
    "both": ((CLAUDE, GPT), PATIENT),
    "local": (("echo", CLAUDE), PATIENT),
    "unhurried": ((GPT, "echo"), Terms()),
    "hedged": ((CLAUDE, GPT), HEDGED),
    "hedged-and-patient": ((GPT, CLAUDE, "echo"), replace(HEDGED, patience_s=0.5)),
}


def ruled(plan: AppPlan) -> AppPlan:
    """Routes that give a silent cloud up soon, in a pool that holds all who ask."""
    rules = tuple(
        Rule(name, one("role", Like((frozenset({name}),))), to, terms=terms) for name, (to, terms) in WAYS.items()
    )
    retries, breaker = Retries(2, 0.01, 0.1, 0.05), Limits(4, window_s=1.0, rest_s=0.1, rest_cap_s=0.2)
    routing = replace(plan.routes, rules=rules, retries=retries, breaker=breaker)
    clouds = tuple(replace(cloud, at=replace(cloud.at, quiet_s=1.0)) for cloud in plan.clouds)
    pools = (replace(ECHO, engine=replace(ECHO.engine, slots=AT_ONCE, queue_limit=AT_ONCE)), *plan.pools[1:])
    http = replace(plan.http, request_deadline_s=5.0)
    return replace(plan, routing=routing, clouds=clouds, pools=pools, http=http, budgets=(Budget("all", LARGEST_NANO),))


def way_of(number: int) -> str:
    """Of each way, requests in both dialects go along it, streamed and whole."""
    return [*WAYS][number // 4 % len(WAYS)]


def text_of(number: int) -> str:
    return f"Request {number:04d}: name the seas that a ship crosses"


@dataclass
class Storm:
    """What came of it. `entries` went into the ledger, `page` are the metrics afterwards, `reserved` what the budgets
    still hold for somebody, `taken_nano` what was taken for good."""

    answers: list[httpx.Response]
    received: list[Received]
    entries: list[Entry]
    page: str
    reserved: int
    taken_nano: int


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    path = tmp_path_factory.mktemp("storm") / "shoal.sqlite"
    store = open_store(StoreAddress.of_file(path))
    lost: list[int] = []
    settlements = WriteBehind[Settlement](store.budgets.settle, lost.append)
    budgets = Budgets((Budget("all", LARGEST_NANO),), store.budgets, settlements.put)
    with far(STORM, budgets=budgets, changed=ruled) as edge:
        answers = asked(edge.served.url)
        received = edge.upstream.ended()
        entries = edge.served.on_loop(lambda: list(edge.served.entries))
        page = httpx.get(f"{edge.served.url}/metrics").text
        edge.served.on_loop(budgets.close)
    settlements.close()
    assert lost == []
    store.close()
    return Storm(answers, received, entries, page, *left_in(path))


def asked(url: str) -> list[httpx.Response]:
    """Every request, in both dialects, streamed and whole, along every route; they come one after another, so that
    not all of them pass by while a breaker rests."""
    limits, began_s = httpx.Limits(max_connections=AT_ONCE), time.monotonic()
    with httpx.Client(timeout=60, limits=limits) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(number: int) -> httpx.Response:
            tree = body(text_of(number), model="auto", max_tokens=MOST_TOKENS, stream=number % 4 > 1)
            headers = {"x-shoal-role": way_of(number), "x-shoal-agent-id": f"r{number:04d}"}
            time.sleep(max(0.0, began_s + number * APART_S - time.monotonic()))
            return client.post(url + (MESSAGES, CHAT)[number % 2], json=tree, headers=headers)

        return list(pool.map(ask, range(REQUESTS)))


def left_in(path: Path) -> tuple[int, int]:
    """How many reservations are in the store, and what its accounts hold."""
    with sqlite3.connect(path) as database:
        [reserved] = database.execute("SELECT count(*) FROM reservations").fetchone()
        [taken] = database.execute("SELECT coalesce(sum(taken_nano), 0) FROM budgets").fetchone()
    database.close()
    return int(reserved), int(taken)


def events(response: httpx.Response) -> list[dict[str, object]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_each_request_ends_in_its_answer_or_in_a_typed_error_of_its_dialect(storm: Storm) -> None:
    ends = [end_of(number, response) for number, response in enumerate(storm.answers)]
    assert len(ends) == REQUESTS
    assert ends.count("answer") > 0.8 * REQUESTS
    assert {"answer", "error", "broken off"} == set(ends)


def end_of(number: int, response: httpx.Response) -> str:
    """How it ended; fails for an end that a client could not make sense of."""
    text, is_messages = text_of(number), number % 2 == 0
    if response.status_code != 200:
        error = response.json()["error"]
        assert response.status_code in {400, 408, 429, 502, 503, 529}, response.text
        assert error["type"], response.text
        assert error["message"], response.text
        return "error"
    if number % 4 <= 1:
        tree = response.json()
        assert text == (tree["content"][0]["text"] if is_messages else tree["choices"][0]["message"]["content"])
        return "answer"
    told = events(response)
    said = "".join(map(piece, told))
    if is_broken := (told[-1].get("type") == "error" if is_messages else "error" in told[-1]):
        assert text.startswith(said)
    else:
        assert said == text
        assert response.text.rstrip().endswith("}" if is_messages else "data: [DONE]")
        assert not is_messages or told[-1]["type"] == "message_stop"
    return "broken off" if is_broken else "answer"


def piece(event: dict[str, object]) -> str:
    """The text in an event of either dialect."""
    choices = event.get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices else event.get("delta")
    text = (delta.get("text") or delta.get("content") or "") if isinstance(delta, dict) else ""
    assert isinstance(text, str)
    return text


@dataclass(frozen=True)
class Try:
    """A request that reached a cloud, and between what sums, in nano-dollars, it has to be in the ledger."""

    name: tuple[int, str]
    received: Received
    least: int
    most: int


def tries_of(storm: Storm) -> list[Try]:
    tries = []
    for received in [received for received in storm.received if received.body]:
        found = re.search(rb"Request (\d{4})", received.body)
        assert found
        name = int(found[1]), str(received.model)
        is_left = received.outcome is Outcome.CLIENT_GONE or may_be_left(storm.answers[name[0]], *name)
        tries.append(Try(name, received, *bounds(received, is_left=is_left)))
    return tries


def may_be_left(response: httpx.Response, number: int, model: str) -> bool:
    """`model` was given up while nothing came, or because another was faster: who hangs up does not learn what was
    written meanwhile."""
    told, answered_by = response.headers.get("x-shoal-route", ""), response.headers.get("x-shoal-model", "")
    is_beaten = WAYS[way_of(number)][1].hedge_after_s is not None and not answered_by.endswith(f"/{model}")
    return response.status_code != 200 or is_beaten or re.search(rf'/{model}";why="late', told) is not None


def bounds(received: Received, *, is_left: bool) -> tuple[int, int]:
    """The least and the most that a request to a cloud may be entered with."""
    assert PRICE is not None
    kind: CloudKind = "anthropic" if received.target.endswith("messages") else "openai"
    prompt = most_tokens(Draft("", kind, received.body))
    most = nano_of(PRICE.cost_usd(Usage(prompt, MOST_TOKENS)))
    usage, billed, is_whole = received.usage, nano_of(received.billed_usd), not wants_stream(received.body)
    if received.fault == "malformed" and usage is not None and not is_whole:
        # Who cannot read an answer hangs up on it, and cannot know what was written after that.
        return nano_of(PRICE.cost_usd(Usage(usage.input, min(AFTER_TOKENS, usage.output)))), most
    if is_left:
        return least_of_left(received, billed if is_whole else 0), most
    if received.fault == "wrong_usage":
        assert usage is not None
        # Ten times the answer, and no prompt: that is no count of the prompt, which is taken for the most it can be.
        return billed, nano_of(PRICE.cost_usd(Usage(prompt, usage.output * 10)))
    return billed, billed if received.fault not in UNTOLD or usage is None else most


def least_of_left(received: Received, billed: int) -> int:
    """Of who was given up: nothing if it refused, else what it has read, and what of `billed` may have come."""
    assert PRICE is not None
    if received.fault == "error_event" or (received.usage is None and received.fault != "silence"):
        return 0
    read = count(text_of(0)) if received.usage is None else received.usage.input
    return max(nano_of(PRICE.cost_usd(Usage(read, 0))), billed)


def test_each_cent_that_the_clouds_charged_is_in_the_ledger(storm: Storm) -> None:
    tries: dict[tuple[int, str], list[Try]] = defaultdict(list)
    for made in tries_of(storm):
        tries[made.name].append(made)
    entered: dict[tuple[int, str], int] = defaultdict(int)
    for entry in storm.entries:
        entered[int(entry.agent[1:]), entry.model.partition("/")[2]] += entry.cost_nano
    wrong = {
        name: (way_of(name[0]), entered[name], [(each.received.fault, each.received.outcome) for each in made], made)
        for name, made in tries.items()
        if not sum(each.least for each in made) <= entered[name] <= sum(each.most for each in made)
    }
    assert wrong == {}
    unheard = {name for name, nano in entered.items() if nano} - tries.keys()
    assert all(may_be_left(storm.answers[number], number, model) for number, model in unheard)
    assert len(unheard) <= REQUESTS / 100


def test_all_together_the_ledger_has_what_was_charged_and_more_only_where_nobody_could_know(storm: Storm) -> None:
    tries = tries_of(storm)
    entered = sum(entry.cost_nano for entry in storm.entries)
    unknown = [each for each in tries if each.least < each.most]
    given_up = [each for each in unknown if each.received.outcome is Outcome.CLIENT_GONE]
    assert sum(nano_of(received.billed_usd) for received in storm.received) <= entered
    assert entered <= sum(each.most for each in tries)
    assert sum(0 < each.least == each.most for each in tries) > REQUESTS / 4
    assert sum(each.least > 0 for each in given_up) > REQUESTS / 50


def test_the_budgets_have_taken_what_the_ledger_says_and_hold_nothing_more(storm: Storm) -> None:
    assert storm.reserved == 0
    assert storm.taken_nano == sum(entry.cost_nano for entry in storm.entries) > 0


def test_every_fault_struck_and_the_breakers_opened_and_closed_again(storm: Storm) -> None:
    kinds = {fault.split("kind: ")[1].partition(",")[0] for fault in FAULTS}
    assert {received.fault for received in storm.received} == {*kinds, None}
    for pool in (CLAUDE, GPT):
        for state in ("open", "half_open", "closed"):
            moves = re.search(rf'shoal_breaker_changes_total{{pool="{pool}",state="{state}"}} (\S+)', storm.page)
            assert moves, (pool, state)
            assert float(moves[1]) >= 1
    reasons = set(re.findall(r'shoal_chain_tries_total{pool="ant/[^"]+",reason="(\w+)"}', storm.page))
    hedges = re.search(r"^shoal_chain_hedges_total (\S+)", storm.page, re.MULTILINE)
    assert hedges
    assert float(hedges[1]) >= REQUESTS / 250
    assert reasons >= {"answered", "broken", "busy", "late", "denied", "unfit", "open"}

"""A thousand requests through the service while its clouds fail in every way: each ends, each cent is accounted for.

The upstream notes what it charged for each request. Where it told that, the ledger has that very sum; where it broke
off or never told, the ledger has no less than it charged.
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

from cluster.upstream.ledger import Entry as Received
from deployments.plan import AppPlan
from router.budget import Budget, Budgets
from router.budget.budgets import Settlement
from router.budget.money import nano_of
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
STORM += "".join(f"  - {{{fault}, probability: 0.03}}\n" for fault in FAULTS)
UNTOLD = {"cut", "reset", "unfinished", "no_usage", "malformed"}
"""Faults after which nobody knows what the answer cost: the cloud has not told, or nobody could read it."""

ROUTES = ((CLAUDE, "echo"), (GPT, "echo"), (CLAUDE, GPT), ("echo", CLAUDE))


def ruled(plan: AppPlan) -> AppPlan:
    """Routes that give a silent cloud up soon, in a pool that holds all who ask."""
    rules = tuple(
        Rule(">".join(to), one("role", Like((frozenset({">".join(to)}),))), to, terms=Terms(patience_s=0.5))
        for to in ROUTES
    )
    retries, breaker = Retries(2, 0.01, 0.1, 0.05), Limits(4, window_s=1.0, rest_s=0.1, rest_cap_s=0.2)
    routing = replace(plan.routes, rules=rules, retries=retries, breaker=breaker)
    clouds = tuple(replace(cloud, at=replace(cloud.at, quiet_s=1.0)) for cloud in plan.clouds)
    pools = (replace(ECHO, engine=replace(ECHO.engine, slots=AT_ONCE, queue_limit=AT_ONCE)), *plan.pools[1:])
    http = replace(plan.http, request_deadline_s=5.0)
    return replace(plan, routing=routing, clouds=clouds, pools=pools, http=http, budgets=(Budget("all", LARGEST_NANO),))


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
            route = ">".join(ROUTES[number // 4 % len(ROUTES)])
            headers = {"x-shoal-role": route, "x-shoal-agent-id": f"r{number:04d}"}
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
        assert (response.status_code in {408, 429, 502, 503, 529}, bool(error["type"]), bool(error["message"])) == (
            True,
            True,
            True,
        ), response.text
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


def test_each_cent_that_the_clouds_charged_is_in_the_ledger(storm: Storm) -> None:
    charged: dict[tuple[int, str], list[Received]] = defaultdict(list)
    for received in storm.received:
        found = re.search(rb"Request (\d{4})", received.body)
        assert found
        charged[int(found[1]), str(received.model)].append(received)
    entered: dict[tuple[int, str], int] = defaultdict(int)
    for entry in storm.entries:
        entered[int(entry.agent[1:]), entry.model.partition("/")[2]] += entry.cost_nano
    assert {name for name, nano in entered.items() if nano} <= charged.keys()
    wrong, exact = {}, 0
    for name, tries in charged.items():
        is_late = may_be_late(storm.answers[name[0]], name[1])
        least, most = (sum(side) for side in zip(*(bounds(one, is_late=is_late) for one in tries), strict=True))
        exact += 0 < least == most
        if not least <= entered[name] <= most:
            wrong[name] = (least, entered[name], most, [(one.fault, one.outcome, one.billed_usd) for one in tries])
    assert wrong == {}
    assert exact > REQUESTS / 4


def may_be_late(response: httpx.Response, model: str) -> bool:
    """`model` was given up while nothing came: who hangs up does not learn what was written meanwhile, and
    enters what it may have been."""
    told = response.headers.get("x-shoal-route", "")
    return response.status_code != 200 or re.search(rf'/{model}";why="late', told) is not None


def bounds(received: Received, *, is_late: bool) -> tuple[int, int]:
    """The least and the most, in nano-dollars, that a request to a cloud may be entered with."""
    assert PRICE is not None
    usage, billed = received.usage, nano_of(received.billed_usd)
    if is_late:
        return 0, nano_of(PRICE.worst_usd(len(received.body), MOST_TOKENS))
    if received.fault == "wrong_usage":
        assert usage is not None
        told = nano_of(usage.output * 10 * PRICE.output_usd / 1e6)
        return told, told
    if received.fault not in UNTOLD or usage is None:
        return billed, billed
    # Who cannot read an answer hangs up on it, and cannot know what was written after that.
    least = nano_of(usage.input * PRICE.input_usd / 1e6) if received.fault == "malformed" else billed
    return least, nano_of(PRICE.worst_usd(len(received.body), MOST_TOKENS))


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
    assert reasons >= {"answered", "broken", "busy", "late", "denied", "unfit", "open"}

"""The ledger and the budgets over a socket: every answer is entered with its reason, and requests feel their budget."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deployments.money import Cause, joined_money
from replicas.engine import Finish, Usage
from replicas.errors import InvalidRequest, SettingsError
from router.budget import Budget, Budgets, Claim, Payer, Reservation
from router.budget.budget import Taken
from router.budget.money import nano_of
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from router.origin import Origin
from router.policy.candidate import Candidate
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import Routing, Rule
from router.prices import price_list
from router.store import Entry, StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import PLAN, Served, serving

ID = new_id()
TEXT, DIGEST = created(ID)
HEADERS = {"x-api-key": TEXT}
KEYRING = Keyring(lambda: [StoredKey(Key(ID, "test", 1.0, frozenset(Scope)), DIGEST)])
AUTO = {"model": Like((frozenset({"auto"}),))}
CLOUD = Candidate("acme/claude-haiku-4-5", False, price=price_list().price("claude-haiku-4-5"))
ROUTING = Routing(
    (Candidate("echo"), Candidate("tiny"), CLOUD),
    (Rule("reviews", one("role", Like((frozenset({"review*"}),))), to=("tiny",)),),
)
BUDGETED = replace(PLAN, routing=ROUTING, budgets=(Budget("all", 100),))


class Purse:
    """Of every budget, so much is taken."""

    def __init__(self, nano: int) -> None:
        self.nano = nano

    def reserve(self, reservation: Reservation) -> None:
        pytest.fail("nothing here costs money")

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return [Taken(self.nano) for _ in claims]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(replace(PLAN, routing=ROUTING), KEYRING) as served:
        yield served


def entered(served: Served) -> Entry:
    """What was entered last, once nothing is under way."""
    return served.on_loop(lambda: served.entries[-1])


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_is_entered_at_no_cost_with_what_a_cloud_would_have_taken(
    served: Served, path: str, is_stream: bool
) -> None:
    assert httpx.post(served.url + path, json=body(stream=is_stream), headers=HEADERS).status_code == 200
    entry = entered(served)
    assert (entry.key_id, entry.model, entry.answers, entry.cost_nano) == (ID, "echo", 1, 0)
    assert entry.prompt > 0
    usage = Usage(entry.prompt, entry.generated, entry.cached)
    assert CLOUD.price
    assert entry.baseline_nano == nano_of(CLOUD.price.cost_usd(usage)) > 0


def test_the_entry_says_for_whom_and_by_which_rule(served: Served) -> None:
    headers = {**HEADERS, "x-shoal-role": "reviewer", "x-shoal-job": "j7"}
    httpx.post(served.url + CHAT, json=body(model="auto"), headers=headers)
    entry = entered(served)
    assert (entry.rule, entry.agent, entry.job, entry.model) == ("rule reviews", "reviewer", "j7", "tiny")


def test_embeddings_are_entered_and_compared_with_nothing(served: Served) -> None:
    asked = {"model": "echo", "input": "one"}
    assert httpx.post(f"{served.url}/v1/embeddings", json=asked, headers=HEADERS).status_code == 200
    entry = entered(served)
    assert (entry.key_id, entry.rule, entry.generated, entry.baseline_nano) == (ID, "asked for by name", 0, 0)


def test_who_leaves_early_is_entered_with_what_was_made() -> None:
    engine = HandEngine()
    with serving(echo=[engine]) as served:
        with httpx.stream("POST", served.url + CHAT, json=body(stream=True)) as answer:
            engine.next().say("abc")
            assert any(b"abc" in part for part in answer.iter_bytes())
        give_up_s = time.monotonic() + 20
        while not served.entries and time.monotonic() < give_up_s:
            time.sleep(0.02)
        assert [(entry.key_id, entry.generated) for entry in served.entries] == [("", 1)]


def test_what_nobody_answered_is_not_entered() -> None:
    engine = HandEngine()
    with serving(echo=[engine]) as served, ThreadPoolExecutor(1) as asking:
        answer = asking.submit(httpx.post, served.url + CHAT, json=body())
        engine.next().end(Finish.ERROR, InvalidRequest("it cannot be"))
        assert answer.result(30).status_code == 400
        assert served.on_loop(lambda: list(served.entries)) == []


@pytest.mark.parametrize(("nano", "state"), [(0, "ok"), (85, "low"), (100, "spent")])
def test_an_answer_says_how_its_budget_stands(nano: int, state: str) -> None:
    purse = Purse(nano)
    with serving(BUDGETED, budgets=Budgets(BUDGETED.budgets, purse, lambda _: None)) as served:
        answer = httpx.post(served.url + CHAT, json=body())
    assert (answer.status_code, answer.headers["x-shoal-budget"]) == (200, state)


@pytest.mark.parametrize(("path", "kind"), [(MESSAGES, "billing_error"), (CHAT, "insufficient_quota")])
def test_without_money_a_request_for_a_cloud_is_answered_here_or_refused_as_configured(path: str, kind: str) -> None:
    asked = body(model=CLOUD.name)
    budgets = Budgets(BUDGETED.budgets, Purse(100), lambda _: None)
    with serving(BUDGETED, budgets=budgets) as served:
        answer = httpx.post(served.url + path, json=asked)
    assert (answer.status_code, answer.headers["x-shoal-model"]) == (200, "echo")
    refusing = replace(BUDGETED, routing=replace(ROUTING, at_limit="refuse"))
    with serving(refusing, budgets=budgets) as served:
        answer = httpx.post(served.url + path, json=asked)
    assert (answer.status_code, answer.json()["error"]["type"]) == (402, kind)
    assert answer.headers["x-shoal-budget"] == "spent"
    assert f'lost=("{CLOUD.name}";why="the budget is spent")' in answer.headers["x-shoal-route"]


def test_a_process_beside_the_ingress_writes_into_the_same_ledger(tmp_path: Path) -> None:
    address = StoreAddress.of_file(tmp_path / "shoal.sqlite")
    store = open_store(address)
    money = joined_money(replace(BUDGETED, store=address, baseline=CLOUD.price))
    payer = Payer("k1", "crawler", "j1")
    money.answered(Cause(Origin(payer=payer), "rule careful", CLOUD.name), Usage(1000, 10), 0.25)
    money.close()
    [entry] = store.ledger.since("")
    assert (entry.job, entry.model, entry.cost_nano) == ("j1", CLOUD.name, nano_of(0.25))
    assert {id_: found[:2] for id_, found in store.usage.totals().items()} == {"k1": (1, 1010)}
    store.close()


def test_where_the_store_cannot_be_reached_jobs_go_on_unless_there_are_budgets() -> None:
    unreachable = replace(PLAN, store=StoreAddress("postgresql://user@host/x", "NO_SUCH_VARIABLE"))
    joined_money(unreachable).close()
    with pytest.raises(SettingsError, match="NO_SUCH_VARIABLE"):
        joined_money(replace(unreachable, budgets=BUDGETED.budgets))

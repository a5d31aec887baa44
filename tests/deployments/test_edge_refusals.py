"""Whom a failing cloud or a full budget refuses is told in either protocol what was decided, and when to come again."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from replicas.errors import BudgetSpent
from router.budget import Budget, Budgets, Claim, Reservation
from router.budget.budget import Taken
from router.budget.money import nano_of
from router.store import StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.far import CLAUDE, GPT, Far, far

TEXT = "Name the seven seas"
DOLLAR = Budget("all", nano_of(1))
BOTH = pytest.mark.parametrize("path", [MESSAGES, CHAT])


def test_whom_clouds_fail_is_told_who_was_tried_and_why_in_vain() -> None:
    ways = [(path, stream) for path in (MESSAGES, CHAT) for stream in (False, True)]
    with far("faults: [500]") as edge:
        answers = [edge.ask(path, TEXT, model=CLAUDE, stream=stream) for path, stream in ways]
    told = [answer.headers["x-shoal-route"] for answer in answers]
    assert (answers[0].status_code, answers[-1].status_code) == (502, 503)
    assert told[0].startswith(f'rule="{CLAUDE}";by=model, to=(), lost=("{CLAUDE}";why="broken: CloudBroken")')
    assert told[-1].startswith(f'rule="{CLAUDE}";by=model, to=(), lost=("{CLAUDE}";why="open: Unavailable")')
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_whom_two_clouds_refuse_is_told_of_both() -> None:
    with far("faults: [{kind: status, status: 429, retry_after_s: 30}]") as edge:
        answer = edge.ask(CHAT, TEXT, f"{CLAUDE}>{GPT}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    lost = f'lost=("{GPT}";why="busy: CloudBusy" "{CLAUDE}";why="busy: CloudBusy"'
    assert answer.headers["x-shoal-route"].startswith(f'rule="{CLAUDE}>{GPT}";by=rule, to=(), {lost}')


class Held:
    """All of every budget is held by calls under way."""

    def reserve(self, reservation: Reservation) -> None:
        raise BudgetSpent(reservation.claims[0].account)

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return [Taken(claim.limit_nano, claim.limit_nano) for claim in claims]


@pytest.fixture(scope="module")
def held() -> Iterator[Far]:
    budgets = Budgets((DOLLAR,), Held(), lambda _: None)
    with far(budgets=budgets, changed=lambda plan: replace(plan, budgets=(DOLLAR,))) as edge:
        yield edge
        assert edge.upstream.entries() == []


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_money_that_calls_under_way_hold_is_told_as_held_and_to_be_asked_for_again(
    held: Far, path: str, *, stream: bool
) -> None:
    answer = held.ask(path, TEXT, model=CLAUDE, stream=stream)
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-shoal-budget"]) == (429, "2", "low")
    assert "$1.000000 of the budget 'all' is held by calls under way" in answer.json()["error"]["message"]
    assert f'lost=("{CLAUDE}";why="busy: BudgetHeld")' in answer.headers["x-shoal-route"]


def test_both_sdks_raise_what_they_raise_for_limits(held: Far) -> None:
    claude = anthropic.Anthropic(base_url=held.served.url, api_key="local", max_retries=0)
    with claude, pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model=CLAUDE, max_tokens=9, messages=[{"role": "user", "content": TEXT}])
    gpt = openai.OpenAI(base_url=f"{held.served.url}/v1", api_key="local", max_retries=0)
    with gpt, pytest.raises(openai.RateLimitError) as limited:
        gpt.chat.completions.create(model=GPT, messages=[{"role": "user", "content": TEXT}])
    assert limited.value.code == "rate_limit_exceeded"


@BOTH
def test_where_a_local_model_stands_behind_nobody_waits_for_money(held: Far, path: str) -> None:
    answer = held.ask(path, TEXT, f"{CLAUDE}>echo")
    assert (answer.status_code, answer.headers["x-shoal-model"]) == (200, "echo")
    assert f'lost=("{CLAUDE}";why="busy: BudgetHeld"' in answer.headers["x-shoal-route"]


def test_calls_at_once_are_never_told_that_what_the_others_hold_is_spent(tmp_path: Path) -> None:
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    job = Budget("each-job", nano_of(0.004), "total", "job")
    budgets = Budgets((job,), store.budgets, lambda settlement: store.budgets.settle([settlement]))

    def ask(url: str) -> httpx.Response:
        tree = body(TEXT, model=CLAUDE, max_tokens=250)
        return httpx.post(url + CHAT, json=tree, headers={"x-shoal-job": "a"}, timeout=60)

    with far("faults: [{kind: slow_start, delay_s: 0.2}]", budgets=budgets) as edge:
        with ThreadPoolExecutor(8) as pool:
            at_once = list(pool.map(ask, [edge.served.url] * 8))
        later = [ask(edge.served.url) for answer in at_once if answer.status_code != 200]
    store.close()
    assert {200} <= {answer.status_code for answer in at_once} <= {200, 429}
    assert {answer.status_code for answer in later} <= {200}


def test_more_than_is_left_of_a_budget_is_told_as_that_with_what_is_left(tmp_path: Path) -> None:
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    budgets = Budgets((Budget("all", nano_of(0.01)),), store.budgets, lambda one: store.budgets.settle([one]))
    with far(budgets=budgets) as edge:
        large, small = (edge.ask(CHAT, TEXT, model=CLAUDE, max_tokens=most) for most in (5_000, 100))
        assert len(edge.upstream.entries()) == 1
    store.close()
    assert (large.status_code, small.status_code) == (402, 200)
    words = r"the budget 'all' has \$0\.010000 left, and this may cost \$0\.02\d{4}; ask for fewer tokens, or .*"
    assert re.fullmatch(words, large.json()["error"]["message"])

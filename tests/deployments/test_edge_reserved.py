"""What is reserved is the worst case: a cloud that writes as much as it may never costs more."""

import json
import time
from dataclasses import replace

import httpx
import pytest

from deployments.plan import AppPlan
from router.budget import Budget, Budgets
from router.budget.budgets import Settlement
from router.budget.tokens import PICTURE_TOKENS
from router.store import Entry
from tests.deployments.asking import CHAT, MESSAGES, body, raw_client
from tests.deployments.far import CLAUDE, GPT, Far, far
from tests.deployments.test_edge_clouds import Purse

COMPLETIONS = "/v1/completions"
EMBED = "/v1/embeddings"
LONG = "one two three four five six seven eight nine ten " * 400
"""The upstream says again what it is told, as far as it may."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "model", "limits", "sent"),
    [
        (CHAT, GPT, {}, {"max_completion_tokens": 1024}),
        (CHAT, GPT, {"max_completion_tokens": 1, "max_tokens": 100_000}, {"max_completion_tokens": 1}),
        (CHAT, GPT, {"max_tokens": 30}, {"max_tokens": 30}),
        (CHAT, CLAUDE, {"max_completion_tokens": 1, "max_tokens": 100_000}, {"max_tokens": 1}),
        (CHAT, GPT, {"max_tokens": 30, "n_predict": 9_000, "max_new_tokens": 9_000}, {"max_tokens": 30}),
        (COMPLETIONS, GPT, {"prompt": LONG, "messages": None}, {"max_tokens": 16}),
        (COMPLETIONS, GPT, {"prompt": LONG, "messages": None, "max_completion_tokens": 5}, {"max_tokens": 16}),
        (MESSAGES, GPT, {"max_tokens": 50}, {"max_completion_tokens": 50}),
        (MESSAGES, CLAUDE, {"max_tokens": 50, "max_completion_tokens": 9_000}, {"max_tokens": 50}),
    ],
)
def test_a_cloud_that_writes_all_that_it_may_costs_no_more_than_was_reserved(
    path: str, model: str, limits: dict[str, object], sent: dict[str, int], *, stream: bool
) -> None:
    settled: list[Settlement] = []
    purse = Purse(10**9)
    asked: dict[str, object] = {"max_tokens": None, **limits, "stream": stream}
    with far(budgets=Budgets((Budget("all", 10**9),), purse, settled.append)) as edge:
        assert edge.ask(path, LONG, "", model=model, **asked).status_code == 200
        [hold] = edge.served.on_loop(lambda: list(settled))
        [entry] = edge.upstream.entries()
    told = json.loads(entry.body)
    assert {name: told[name] for name in told if name.startswith("max_") or name == "n_predict"} == sent
    assert 0 < hold.cost_nano <= purse.reserved[0]


def test_without_budgets_a_cloud_is_told_no_limit_that_the_caller_did_not_name() -> None:
    with far() as edge:
        assert edge.ask(CHAT, "hello", model=GPT, max_tokens=None, service_tier="priority").status_code == 200
        [entry] = edge.upstream.entries()
    told = json.loads(entry.body)
    assert (told.get("max_tokens"), "max_completion_tokens" in told, told["service_tier"]) == (None, False, "priority")


@pytest.mark.parametrize(
    ("path", "model", "member"),
    [
        (CHAT, GPT, {"models": ["far/dearer"]}),
        (CHAT, GPT, {"plugins": [{"id": "web"}]}),
        (CHAT, GPT, {"service_tier": "priority"}),
        (CHAT, GPT, {"web_search_options": {}}),
        (CHAT, GPT, {"best_of": 3}),
        (EMBED, GPT, {"input": "one", "service_tier": "priority"}),
        (MESSAGES, CLAUDE, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ],
)
def test_where_there_are_budgets_what_has_a_price_of_its_own_goes_to_no_cloud(
    path: str, model: str, member: dict[str, object]
) -> None:
    settled: list[Settlement] = []
    with far(budgets=Budgets((Budget("all", 10**9),), Purse(10**9), settled.append)) as edge:
        answer = edge.ask(path, "hello", "", model=model, **member)
        assert edge.upstream.entries() == []
    assert answer.status_code == 400
    assert f"{list(member)[-1]}: " in answer.json()["error"]["message"]


@pytest.mark.parametrize("beta", ["context-1m-2025-08-07", "token-efficient-tools-2025-02-19, fast-mode-2026-02-01"])
def test_nor_does_what_has_another_price_by_a_header(beta: str) -> None:
    headers, asked = {"anthropic-beta": beta}, body("hello", model=CLAUDE)
    with far() as edge:
        assert httpx.post(edge.served.url + MESSAGES, json=asked, headers=headers, timeout=30).status_code == 200
    with far(budgets=Budgets((Budget("all", 10**9),), Purse(10**9), lambda _: None)) as edge:
        answer = httpx.post(edge.served.url + MESSAGES, json=asked, headers=headers, timeout=30)
        assert edge.upstream.entries() == []
    assert (answer.status_code, "anthropic-beta: " in answer.text) == (400, True)


def test_a_picture_by_its_address_is_reserved_as_the_most_that_one_can_be() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "hello"}, *[picture] * 2]}]
    purse = Purse(10**9)
    with far(budgets=Budgets((Budget("all", 10**9),), purse, lambda _: None)) as edge:
        edge.ask(CHAT, "", model=GPT, messages=asked, max_tokens=10)
    assert purse.reserved[0] > 2 * PICTURE_TOKENS["openai"] * 1_000


def entered(edge: Far) -> Entry:
    """The first that is, once there is one."""
    give_up_s = time.monotonic() + 20
    while not edge.served.entries and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return edge.served.entries[0]


@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize(("stream", "written"), [(False, 100), (True, 0)])
def test_who_leaves_while_a_cloud_is_silent_pays_for_what_it_may_have_written(
    model: str, written: int, *, stream: bool
) -> None:
    settled: list[Settlement] = []
    purse = Purse(10**9)
    with far("faults: [silence]", budgets=Budgets((Budget("all", 10**9),), purse, settled.append)) as edge:
        with raw_client(edge.served.address) as client:
            client.post(CHAT, body(model=model, stream=stream))
            edge.upstream.begun()
        entry = entered(edge)
        [hold] = edge.served.on_loop(lambda: list(settled))
    assert (entry.model, entry.prompt > 0, entry.generated) == (model, True, written)
    assert 0 < entry.cost_nano == hold.cost_nano <= purse.reserved[0]


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_cloud_that_fails_before_it_says_anything_costs_nothing(model: str) -> None:
    settled: list[Settlement] = []
    budgets = Budgets((Budget("all", 10**9),), Purse(10**9), settled.append)
    with far("faults: [reset, 500]", budgets=budgets) as edge:
        edge.ask(CHAT, "hello", f"{model}>echo")
        assert {one.cost_nano for one in edge.served.on_loop(lambda: list(settled))} == {0}


def quick_to_give_up(plan: AppPlan) -> AppPlan:
    """Whoever says nothing for a while is not waited for."""
    return replace(plan, clouds=tuple(replace(cloud, at=replace(cloud.at, quiet_s=0.2)) for cloud in plan.clouds))


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_cloud_that_falls_silent_is_paid_for_what_it_has_read(model: str) -> None:
    settled: list[Settlement] = []
    purse = Purse(10**9)
    budgets = Budgets((Budget("all", 10**9),), purse, settled.append)
    with far("faults: [silence]", budgets=budgets, changed=quick_to_give_up) as edge:
        answer = edge.ask(CHAT, "hello", f"{model}>echo", stream=True)
        entries = edge.served.on_loop(lambda: list(edge.served.entries))
        asked = len(edge.upstream.entries())
    paid = [entry.cost_nano for entry in entries if entry.model == model]
    assert (answer.headers["x-shoal-model"], len(paid), min(paid) > 0) == ("echo", asked, True)
    assert paid == [one.cost_nano for one in settled]
    assert max(paid) <= min(purse.reserved)


def test_vectors_that_nobody_counted_cost_what_their_texts_are_likely_to_be() -> None:
    with far("faults: [no_usage]") as edge:
        asked = {"model": GPT, "input": LONG[:1000]}
        assert httpx.post(edge.served.url + EMBED, json=asked, timeout=30).status_code == 200
        entry = entered(edge)
    assert entry.prompt >= 500
    assert entry.cost_nano > 0


def test_who_leaves_while_vectors_are_made_pays_for_them() -> None:
    with far("faults: [silence]") as edge:
        with raw_client(edge.served.address) as client:
            client.post(EMBED, {"model": GPT, "input": LONG[:1000]})
            edge.upstream.begun()
        entry = entered(edge)
    assert entry.prompt >= 500
    assert entry.cost_nano > 0


@pytest.mark.parametrize("fault", ["malformed", "cut", "unfinished"])
def test_vectors_that_cannot_be_read_are_paid_for(fault: str) -> None:
    settled: list[Settlement] = []
    purse = Purse(10**9)
    with far(f"faults: [{fault}]", budgets=Budgets((Budget("all", 10**9),), purse, settled.append)) as edge:
        answer = httpx.post(edge.served.url + EMBED, json={"model": GPT, "input": LONG[:1000]}, timeout=30)
        [hold] = edge.served.on_loop(lambda: list(settled))
        [entry] = edge.served.on_loop(lambda: list(edge.served.entries))
        [received] = edge.upstream.entries()
    assert answer.status_code == 502
    assert received.usage is not None
    assert entry.prompt >= received.usage.input > 0
    assert 0 < entry.cost_nano == hold.cost_nano <= purse.reserved[0]


@pytest.mark.parametrize("fault", ["reset", "500", "401"])
def test_vectors_that_were_never_begun_cost_nothing(fault: str) -> None:
    settled: list[Settlement] = []
    with far(f"faults: [{fault}]", budgets=Budgets((Budget("all", 10**9),), Purse(10**9), settled.append)) as edge:
        answer = httpx.post(edge.served.url + EMBED, json={"model": GPT, "input": "one"}, timeout=30)
        assert {one.cost_nano for one in edge.served.on_loop(lambda: list(settled))} == {0}
        assert edge.served.on_loop(lambda: list(edge.served.entries)) == []
    assert answer.status_code in {502, 503}


def test_the_budget_of_a_job_pays_for_its_vectors_too() -> None:
    asked = {"model": GPT, "input": "one"}
    with far(budgets=Budgets((Budget("jobs", 10, each="job"),), Purse(0), lambda _: None)) as edge:
        free, paid = (
            httpx.post(edge.served.url + EMBED, json=asked, headers=headers, timeout=30)
            for headers in ({}, {"x-shoal-job": "j7"})
        )
    assert (free.status_code, paid.status_code) == (200, 402)


def test_vectors_are_held_at_a_token_for_each_byte_of_their_texts() -> None:
    settled: list[Settlement] = []
    purse = Purse(10**9)
    with far(budgets=Budgets((Budget("all", 10**9),), purse, settled.append)) as edge:
        asked = {"model": GPT, "input": [LONG[:1000], LONG[:500]]}
        assert httpx.post(edge.served.url + EMBED, json=asked, timeout=30).status_code == 200
        [hold] = edge.served.on_loop(lambda: list(settled))
    assert 0 < hold.cost_nano < 1_500 * 1_000 < purse.reserved[0]


def test_only_a_prompt_that_is_to_be_kept_for_an_hour_is_held_at_the_price_of_that() -> None:
    purse = Purse(10**9)
    with far(budgets=Budgets((Budget("all", 10**9),), purse, lambda _: None)) as edge:
        for ttl in ("5m", "1h"):
            part = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": ttl}}
            edge.ask(MESSAGES, "", model=CLAUDE, messages=[{"role": "user", "content": [part]}], max_tokens=1)
    short, long = purse.reserved
    assert long > 1.5 * short

"""What rules ask of the way to an answer, over sockets: gates, judges, hedges, patience; and learned speeds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deployments.plan import AppPlan
from replicas.errors import EngineFailed
from router.chain.bar import Bar
from router.chain.breaker import Limits
from router.chain.judge import Judging
from router.chain.terms import Terms
from router.journal.archive import Archive, Retention
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import PolicyName, Rule
from router.store import StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.far import CLAUDE, GPT, Far, far
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import PLAN, serving

TEXT = "Name the seven seas, Grüße 🐟"
BOTH = pytest.mark.parametrize("path", [MESSAGES, CHAT])
STREAMED = pytest.mark.parametrize("stream", [False, True])
LONG = Bar(least_characters=1000)
JUDGED = Terms(Bar(), Judging(GPT))


def ruled(*to: str, terms: Terms, policy: PolicyName | None = None) -> Callable[[AppPlan], AppPlan]:
    """A plan with one rule more, for the role `it`."""
    rule = Rule("it", one("role", Like((frozenset({"it"}),))), to, policy, terms=terms)
    return lambda plan: replace(plan, routing=replace(plan.routes, rules=(rule, *plan.routes.rules)))


def said(response: httpx.Response) -> str:
    """All text of an answer, whatever its form."""
    if "event-stream" not in response.headers["content-type"]:
        tree = response.json()
        text = tree["content"][0]["text"] if "content" in tree else tree["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    deltas = [event.get("delta") or (event.get("choices") or [{}])[0].get("delta") or {} for event in events]
    return "".join(delta.get("text") or delta.get("content") or "" for delta in deltas)


def judged(edge: Far) -> list[dict[str, object]]:
    """What judges were asked."""
    bodies = [json.loads(entry.body) for entry in edge.upstream.entries()]
    return [one for one in bodies if "You check answers" in json.dumps(one)]


@BOTH
@STREAMED
def test_an_answer_below_the_bar_is_replaced_by_the_next_ones_before_its_first_byte(path: str, *, stream: bool) -> None:
    with far(changed=ruled("echo", CLAUDE, terms=Terms(LONG))) as edge:
        response = edge.ask(path, TEXT, "it", stream=stream)
        page = httpx.get(f"{edge.served.url}/metrics").text
    assert (response.headers["x-shoal-model"], said(response)) == (CLAUDE, TEXT)
    assert 'lost=("echo";why="rejected: length"' in response.headers["x-shoal-route"]
    assert 'shoal_chain_rejections_total{check="length",pool="echo"} 1.0' in page


@STREAMED
def test_a_good_answer_passes_its_gate_and_no_cloud_is_asked(*, stream: bool) -> None:
    bar = Bar(mean_logprob=-0.1, min_logprob=-0.1, refusals=True, repetition=True, least_characters=3)
    with far(changed=ruled("echo", CLAUDE, terms=Terms(bar))) as edge:
        response = edge.ask(CHAT, TEXT, "it", stream=stream)
        assert edge.upstream.entries() == []
    assert (response.headers["x-shoal-model"], said(response)) == ("echo", TEXT)
    assert '"logprobs":{' not in response.text


def test_scores_that_the_caller_asked_for_go_out_through_a_gate() -> None:
    with far(changed=ruled("echo", CLAUDE, terms=Terms(Bar(mean_logprob=-1.0)))) as edge:
        response = edge.ask(CHAT, "abc", "it", logprobs=True)
    scores = response.json()["choices"][0]["logprobs"]["content"]
    assert [score["token"] for score in scores] == ["a", "b", "c", ""]


def test_what_is_rejected_is_given_all_the_same_if_nobody_else_answers() -> None:
    with far("faults: [400]", changed=ruled("echo", CLAUDE, terms=Terms(LONG))) as edge:
        response = edge.ask(CHAT, TEXT, "it")
        page = httpx.get(f"{edge.served.url}/metrics").text
    assert (response.status_code, response.headers["x-shoal-model"], said(response)) == (200, "echo", TEXT)
    assert 'shoal_chain_answers_total{by="below_bar"} 1.0' in page


@pytest.mark.parametrize("to", [("echo",), ("echo", "tiny")])
def test_a_rule_may_rather_have_no_answer_than_a_poor_one_among_local_models_too(to: tuple[str, ...]) -> None:
    changed = ruled(*to, terms=Terms(LONG, serves_rejected=False))
    with serving(changed(PLAN)) as served:
        response = httpx.post(f"{served.url}{CHAT}", json=body(TEXT, model="auto"), headers={"x-shoal-role": "it"})
    assert response.status_code == 503
    assert "an answer that is good enough" in response.json()["error"]["message"]


def test_a_rule_with_several_local_models_falls_back_among_them() -> None:
    engine = HandEngine()
    engine.refusal = EngineFailed("it broke")
    with serving(ruled("echo", "tiny", terms=Terms())(PLAN), echo=[engine]) as served:
        response = httpx.post(f"{served.url}{CHAT}", json=body("hi", model="auto"), headers={"x-shoal-role": "it"})
    assert (response.status_code, response.headers["x-shoal-model"], said(response)) == (200, "tiny", "hi")
    assert 'lost=("echo";why="broken: EngineFailed"' in response.headers["x-shoal-route"]


def test_one_local_model_with_nothing_to_judge_has_no_chain() -> None:
    changed = ruled("echo", terms=Terms())
    with serving(changed(PLAN)) as served:
        for asked, role in ((body(TEXT), ""), (body(TEXT, model="auto"), "it"), (body(TEXT, model="auto"), "other")):
            assert httpx.post(f"{served.url}{CHAT}", json=asked, headers={"x-shoal-role": role}).status_code == 200
        assert "shoal_chain_tries_total{" not in httpx.get(f"{served.url}/metrics").text


@BOTH
@pytest.mark.parametrize(("verdict", "who"), [("Yes.", "echo"), ("no", CLAUDE), ("hm", "echo")])
def test_a_judge_decides_and_one_without_a_verdict_lets_answers_pass(path: str, verdict: str, who: str) -> None:
    script = f"answers: [{{when: {{model: gpt}}, text: {json.dumps(verdict)}}}]"
    with far(script, changed=ruled("echo", CLAUDE, terms=JUDGED)) as edge:
        response = edge.ask(path, TEXT, "it")
        [asked] = judged(edge)
        entries = edge.served.on_loop(lambda: list(edge.served.entries))
    assert (response.status_code, response.headers["x-shoal-model"], said(response)) == (200, who, TEXT)
    assert (asked["model"], json.dumps(asked).count("Name the seven seas")) == ("gpt", 2)  # the request and the answer
    assert [entry.cost_nano > 0 for entry in entries if entry.model == GPT] == [True]


@pytest.mark.parametrize("verdict", ["Yes.", "no", "hm"])
def test_what_a_judge_costs_is_in_the_journals_cost_of_the_answer(tmp_path: Path, verdict: str) -> None:
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    archive = Archive(store, Retention(30.0), lambda _: pytest.fail("nothing may be lost"))
    script = f"answers: [{{when: {{model: gpt}}, text: {json.dumps(verdict)}}}]"
    with far(script, changed=ruled("echo", CLAUDE, terms=JUDGED), archive=archive) as edge:
        edge.ask(CHAT, TEXT, "it")
        entries = edge.served.on_loop(lambda: list(edge.served.entries))
    [kept] = store.decisions.since(0.0)
    assert kept.result.cost_nano == sum(entry.cost_nano for entry in entries) > 0
    store.close()


def test_a_local_model_may_judge_and_a_judge_that_is_down_lets_answers_pass() -> None:
    engine = HandEngine()
    engine.refusal = EngineFailed("it broke")
    with far(changed=ruled("echo", CLAUDE, terms=Terms(Bar(), Judging("tiny"))), tiny=[engine]) as edge:
        response = edge.ask(CHAT, TEXT, "it")
    assert (response.headers["x-shoal-model"], said(response)) == ("echo", TEXT)


def test_no_judge_elsewhere_sees_a_private_request_nor_an_answer_with_a_secret() -> None:
    secret = "write to jane.doe@acme-harbour.com"
    with far(changed=ruled("echo", CLAUDE, terms=JUDGED)) as edge:
        marked = httpx.post(
            edge.served.url + CHAT,
            json=body(TEXT, model="auto"),
            headers={"x-shoal-role": "it", "x-shoal-private": "1"},
        )
        found = edge.ask(CHAT, secret, "it")
        assert edge.upstream.entries() == []
    assert [said(marked), said(found)] == [TEXT, secret]


@BOTH
@STREAMED
def test_a_hedge_asks_the_next_model_beside_one_that_says_nothing(path: str, *, stream: bool) -> None:
    engine = HandEngine()
    with far(changed=ruled("echo", CLAUDE, terms=Terms(hedge_after_s=0.05)), echo=[engine]) as edge:
        response = edge.ask(path, TEXT, "it", stream=stream)
        page = httpx.get(f"{edge.served.url}/metrics").text
        assert engine.next().cancelled.wait(10)
    assert (response.headers["x-shoal-model"], said(response)) == (CLAUDE, TEXT)
    assert "shoal_chain_hedges_total 1.0" in page


def test_work_that_may_wait_is_not_hedged() -> None:
    with far("faults: [{kind: slow_start, delay_s: 0.3}]", changed=ruled(CLAUDE, "echo", terms=HEDGED)) as edge:
        headers = {"x-shoal-role": "it", "x-shoal-priority": "batch"}
        response = httpx.post(edge.served.url + CHAT, json=body(TEXT, model="auto"), headers=headers, timeout=30)
    assert response.headers["x-shoal-model"] == CLAUDE


HEDGED = Terms(hedge_after_s=0.01)


def test_a_model_that_says_nothing_for_too_long_is_given_up() -> None:
    engine = HandEngine()
    with far(changed=ruled("echo", CLAUDE, terms=Terms(patience_s=0.05)), echo=[engine]) as edge:
        response = edge.ask(CHAT, TEXT, "it")
        assert engine.next().cancelled.wait(10)
    assert response.headers["x-shoal-model"] == CLAUDE
    assert 'lost=("echo";why="late: DeadlineExceeded"' in response.headers["x-shoal-route"]


def test_the_breaker_is_as_the_settings_have_it() -> None:
    def quick(plan: AppPlan) -> AppPlan:
        return replace(plan, routing=replace(plan.routes, breaker=Limits(failures=1, ratio=0.1, rest_s=60.0)))

    with far("faults: [{kind: status, status: 401}]", changed=quick) as edge:
        answers = [edge.ask(CHAT, TEXT, f"{CLAUDE}>echo") for _ in range(2)]
        assert len(edge.upstream.entries()) == 1
    assert {answer.headers["x-shoal-model"] for answer in answers} == {"echo"}
    assert 'why="open: Unavailable"' in answers[1].headers["x-shoal-route"]


def test_the_fastest_model_is_known_by_its_answers_and_the_status_tells_the_speeds() -> None:
    with far("faults: [{kind: slow_tokens, delay_s: 0.02}]", "fastest") as edge:
        for model in ("echo", "tiny", CLAUDE, GPT):
            assert edge.ask(CHAT, "some words that take a while to say", model=model, stream=True).status_code == 200
        speeds = httpx.get(f"{edge.served.url}/status").json()["speeds"]
        answer = edge.ask(CHAT, TEXT)
    assert set(speeds) == {"echo", "tiny", CLAUDE, GPT}
    assert all(speeds[slow]["token_s"] > speeds["echo"]["token_s"] >= 0 for slow in (CLAUDE, GPT))
    assert answer.headers["x-shoal-model"] in {"echo", "tiny"}

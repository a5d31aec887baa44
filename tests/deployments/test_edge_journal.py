"""The journal, feedback and experiments over a socket, with a real store behind them."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from deployments.ingress import Ingress
from deployments.journalling import joined_archive
from deployments.plan import AppPlan
from deployments.replica_watch import watch
from replicas.engine import Finish
from replicas.errors import EngineFailed
from router.experiments.assignment import variant_of
from router.experiments.experiment import Experiment, Variant
from router.journal.archive import Archive, Retention
from router.journal.entry import JournalEntry, Option, Outcome
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from router.policy.candidate import Candidate
from router.policy.rule import Routing, Rule
from router.store import Store, StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.local_pool import LocalPool
from tests.deployments.served import ECHO, PLAN, Served, echo, serving
from tests.router.decisions import entry

FEEDBACK = "/v1/feedback"
CANARY = "canary-91c2"
IDS = (new_id(), new_id())
KEYS = {id_: created(id_) for id_ in IDS}
KEYRING = Keyring(lambda: [StoredKey(Key(id_, id_, 1.0, frozenset(Scope)), KEYS[id_][1]) for id_ in IDS])
EXPERIMENT = Experiment(
    "size",
    (
        Variant("as-ever"),
        Variant("tiny", sends=Rule("tiny", to=("tiny",))),
        Variant("far", sends=Rule("far", to=("acme/big", "echo"))),
        Variant("brief", system="Be brief."),
    ),
)
SESSIONS = [f"s{number}" for number in range(200)]
ROUTING = Routing((*PLAN.routes.candidates, Candidate("acme/big", is_local=False)))


def key(number: int) -> dict[str, str]:
    """The headers of one of two keys."""
    return {"x-api-key": KEYS[IDS[number]][0]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(StoreAddress.of_file(tmp_path_factory.mktemp("store") / "shoal.sqlite"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def edge(store: Store) -> Iterator[Served]:
    plan = replace(PLAN, routing=ROUTING, experiments=(EXPERIMENT,))
    with serving(
        plan, KEYRING, archive=Archive(store, Retention(30.0), lambda _: pytest.fail("nothing may be lost"))
    ) as served:
        yield served


def ask(edge: Served, text: str = "hello", *, path: str = CHAT, number: int = 0, **changes: object) -> httpx.Response:
    tree = body(text, **{"model": "auto", "max_tokens": 5, **changes})
    return httpx.post(edge.url + path, json=tree, headers=key(number), timeout=30)


def id_of(answer: httpx.Response) -> str:
    """The id of an answer, whole or streamed, in either dialect."""
    if not answer.text.startswith(("data:", "event:")):
        return str(answer.json()["id"])
    first = json.loads(next(line for line in answer.text.splitlines() if line.startswith("data:"))[5:])
    return str(first["message"]["id"] if "message" in first else first["id"])


def say(edge: Served, id_: object, score: object = 0.5, number: int = 0, **more: object) -> httpx.Response:
    tree = {"id": id_, "score": score, **more}
    return httpx.post(edge.url + FEEDBACK, json=tree, headers=key(number), timeout=30)


def row(store: Store, id_: str) -> JournalEntry:
    return next(entry for entry in store.decisions.since(0.0) if entry.id == id_)


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_in_the_journal_under_the_id_that_its_caller_got(
    edge: Served, store: Store, path: str, *, stream: bool
) -> None:
    answer = ask(edge, CANARY, path=path, model="echo", stream=stream)
    assert say(edge, id_of(answer), 1).status_code == 202
    found = row(store, id_of(answer))
    assert (found.by, found.rule, found.key_id, found.chosen) == ("model", "echo", IDS[0], "echo")
    assert (found.result.outcome, found.result.answered_by) == (Outcome.ANSWERED, "echo")
    assert found.result.generated > 0
    assert found.result.ttft_s is not None
    assert CANARY not in repr(found)
    assert found.feedback is not None
    assert found.feedback.score == 1.0


def test_the_last_word_counts_and_a_comment_is_not_kept(edge: Served, store: Store) -> None:
    id_ = id_of(ask(edge))
    assert say(edge, id_, 0.25, label="meh").json() == {"object": "feedback", "id": id_, "score": 0.25, "label": "meh"}
    assert say(edge, id_, 0.75, label="fine\u0000", comment=CANARY).status_code == 202
    found = row(store, id_)
    assert found.feedback is not None
    assert (found.feedback.score, found.feedback.label) == (0.75, "fine")
    assert CANARY not in repr(found)


def test_another_keys_answer_does_not_exist(edge: Served, store: Store) -> None:
    id_ = id_of(ask(edge, number=0))
    refused, unknown = say(edge, id_, number=1), say(edge, "msg_of_nobody", number=1)
    assert (refused.status_code, unknown.status_code) == (404, 404)
    words = [
        one.json()["error"]["message"].replace(name, "ID") for one, name in ((refused, id_), (unknown, "msg_of_nobody"))
    ]
    assert words[0] == words[1]
    assert row(store, id_).feedback is None


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({"score": 1}, "id"),
        ({"id": "", "score": 1}, "id"),
        ({"id": "x" * 201, "score": 1}, "id"),
        ({"id": 5, "score": 1}, "id"),
        ({"id": "x"}, "score"),
        ({"id": "x", "score": 1.01}, "score"),
        ({"id": "x", "score": "1"}, "score"),
        ({"id": "x", "score": True}, "score"),
        ({"id": "x", "score": 1, "label": ["a"]}, "label"),
        ({"id": "x", "score": 1, "label": "a" * 201}, "label"),
    ],
)
def test_feedback_that_is_wrong_is_refused_by_its_field(edge: Served, tree: object, field: str) -> None:
    answer = httpx.post(edge.url + FEEDBACK, json=tree, headers=key(0))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_feedback_wants_the_scope_of_inference(edge: Served) -> None:
    assert httpx.post(edge.url + FEEDBACK, json={}).status_code == 401


def test_where_nothing_is_kept_feedback_says_how_to_turn_it_on() -> None:
    with serving() as served:
        answer = httpx.post(served.url + FEEDBACK, json={"id": "x", "score": 1})
    assert answer.status_code == 404
    assert "journal.enabled" in answer.json()["error"]["message"]


def test_more_feedback_than_the_store_keeps_up_with_is_asked_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(store, Retention(30.0), lambda _: pytest.fail("nothing may be lost"))
    begun, goes_on = threading.Event(), threading.Event()

    def give(*_: object) -> str:
        begun.set()
        assert goes_on.wait(30)
        return "echo"

    monkeypatch.setattr(archive, "give", give)
    monkeypatch.setattr("deployments.feedback.MOST_WAITING", 1)
    with serving(PLAN, KEYRING, archive=archive) as served, ThreadPoolExecutor(1) as others:
        first = others.submit(say, served, "msg_1")
        assert begun.wait(30)
        refused = say(served, "msg_2")
        goes_on.set()
        assert first.result(30).status_code == 202
        assert say(served, "msg_2").status_code == 202
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def in_turn(edge: Served, wanted: Callable[[httpx.Response], bool]) -> httpx.Response:
    """The first of many sessions whose answer is so."""
    answers = (ask(edge, session_id=name) for name in SESSIONS)
    return next(answer for answer in answers if wanted(answer))


@pytest.mark.parametrize(("variant", "model"), [("as-ever", "echo"), ("tiny", "tiny"), ("brief", "echo")])
def test_an_answer_tells_its_variant_and_the_journal_keeps_it(
    edge: Served, store: Store, variant: str, model: str
) -> None:
    answer = in_turn(edge, lambda one: one.headers["x-shoal-experiment"] == f"size={variant}")
    assert answer.headers["x-shoal-model"] == model
    assert say(edge, id_of(answer)).status_code == 202
    found = row(store, id_of(answer))
    assert (found.experiment, found.variant, found.result.answered_by) == ("size", variant, model)
    assert {one.name: one.propensity for one in found.options if one.propensity} == {"echo": 0.75, "tiny": 0.25}


def test_a_system_prompt_reaches_the_model(edge: Served) -> None:
    answers = {
        answer.headers["x-shoal-experiment"]: answer.json()["usage"]["prompt_tokens"]
        for answer in (ask(edge, session_id=f"s{number}") for number in range(60))
    }
    assert answers["size=brief"] > answers["size=as-ever"]


def is_of(variant: str, answer: httpx.Response) -> bool:
    """Whether `variant` gave `answer`."""
    return bool(answer.headers["x-shoal-experiment"] == f"size={variant}")


def test_what_is_kept_of_a_request_is_what_the_policy_saw_not_the_variants_prompt(edge: Served, store: Store) -> None:
    found = {}
    for variant in ("as-ever", "brief"):
        answer = in_turn(edge, partial(is_of, variant))
        assert say(edge, id_of(answer)).status_code == 202
        found[variant] = row(store, id_of(answer)).features
    assert found["brief"] == found["as-ever"]


def test_a_session_keeps_its_variant(edge: Served) -> None:
    told = {ask(edge, session_id="steady").headers["x-shoal-experiment"] for _ in range(5)}
    assert len(told) == 1


def test_the_choices_of_an_answer_share_a_variant_and_have_a_row_each(edge: Served, store: Store) -> None:
    drawn = ((name, variant_of(EXPERIMENT, f"session {IDS[0]}/{name}")) for name in SESSIONS)
    session = next(name for name, variant in drawn if variant == EXPERIMENT.variants[3])
    answer = ask(edge, n=3, session_id=session)
    id_ = id_of(answer)
    assert say(edge, id_).status_code == 202
    found = [row(store, name) for name in (id_, f"{id_}-1", f"{id_}-2")]
    assert {f"{one.experiment}={one.variant}" for one in found} == {answer.headers["x-shoal-experiment"]}
    assert [one.feedback is not None for one in found] == [True, False, False]


def test_private_requests_and_those_for_a_model_take_part_in_nothing_that_sends_to_clouds(
    edge: Served, store: Store
) -> None:
    private = ask(edge, "mail jane@acme.com", session_id="p")
    named = ask(edge, model="echo", session_id="p")
    assert {"x-shoal-experiment"} & {*private.headers, *named.headers} == set()
    assert say(edge, id_of(private)).status_code == 202
    found = row(store, id_of(private))
    assert (found.is_private, found.experiment, found.options[0]) == (True, "", Option("echo", 1.0))
    assert all(not isinstance(value, str) for value in found.features.values())


def test_every_decision_is_counted_by_rule_model_and_outcome(edge: Served) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{edge.url}/metrics", headers=key(0)).text.splitlines()
        told = [line.rsplit(" ", 1) for line in lines if line.startswith("shoal_route_decisions_total{")]
        return {name: float(value) for name, value in told}

    before = counted()
    ask(edge, model="echo")
    assert ask(edge, model=CANARY).status_code == 404
    changed = {name for name, value in counted().items() if value != before.get(name)}
    assert len(changed) == 2
    assert CANARY not in repr(changed)
    assert any('model="echo"' in name and 'outcome="answered"' in name for name in changed)
    assert any('rule="asked for by name"' in name and 'outcome="refused"' in name for name in changed)


def test_an_answer_that_fails_is_in_the_journal_too(tmp_path: Path) -> None:
    opened = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    engine = HandEngine()
    archive = Archive(opened, Retention(30.0), lambda _: pytest.fail("nothing may be lost"))
    with (
        serving(archive=archive, echo=[engine]) as served,
        httpx.stream("POST", served.url + CHAT, json=body(stream=True)) as answer,
    ):
        engine.next().end(Finish.ERROR, EngineFailed("x"))
        assert any(b"error" in part for part in answer.iter_bytes())
    [found] = opened.decisions.since(0.0)
    assert (found.result.outcome, found.result.reason, found.key_id) == (Outcome.FAILED, "EngineFailed", "")
    opened.close()


def test_a_process_beside_the_ingress_writes_into_the_same_journal(tmp_path: Path) -> None:
    address = StoreAddress.of_file(tmp_path / "shoal.sqlite")
    opened = open_store(address)
    archive = joined_archive(replace(PLAN, store=address, journal=Retention(30.0)))
    assert archive is not None
    kept = entry("msg_1", time.time())
    archive.put(kept.id, lambda: kept)
    archive.close()
    assert list(opened.decisions.since(0.0)) == [kept]
    opened.close()


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, store=StoreAddress("postgresql://u@h/x", "NO_SUCH_VARIABLE"))])
def test_without_a_store_or_a_journal_nothing_is_kept(plan: AppPlan) -> None:
    assert joined_archive(plan) is None
    assert joined_archive(replace(plan, journal=Retention(1.0))) is None


def test_the_ingress_keeps_its_decisions_in_the_store_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, pools=(ECHO,), store=StoreAddress.of_file(tmp_path / "shoal.sqlite"), journal=Retention(30.0))

    async def asked() -> str:
        pool = LocalPool(ECHO.deployment, ECHO.model, ECHO.path)
        watch(ECHO.deployment).announce(frozenset())
        pool.add(echo(ECHO))
        monkeypatch.setattr("ray.serve.get_deployment_handle", lambda *_, **__: pool.handle())
        monkeypatch.setattr("deployments.ingress.reuse_port", lambda: None)
        front = Ingress(plan, lambda _: ())
        transport = httpx.ASGITransport(front.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            id_ = id_of(await client.post(CHAT, json=body()))
            assert (await client.post(FEEDBACK, json={"id": id_, "score": 1})).status_code == 202
        front.__del__()
        return id_

    id_ = asyncio.run(asked())
    opened = open_store(plan.store or pytest.fail("the plan has one"))
    assert [(one.id, one.result.answered_by) for one in opened.decisions.since(0.0)] == [(id_, "echo")]
    opened.close()

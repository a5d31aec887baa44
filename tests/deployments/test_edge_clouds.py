"""Clouds behind the edge, over sockets: both protocols on either side, fallbacks, errors, money, what never leaves."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import anthropic
import httpx
import openai
import pytest
from anthropic.types import TextBlock

from cluster.upstream.ledger import Outcome
from deployments.plan import AppPlan
from replicas.engine import Message, Sampling
from replicas.errors import BudgetSpent, EngineFailed, Overloaded, ShoalError
from router.budget import Budget, Budgets, Claim, Reservation
from router.budget.budget import Settlement, Taken
from router.budget.money import nano_of
from router.call import Call
from router.chain.backoff import Retries
from router.chain.breaker import Limits
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from tests.deployments.asking import CHAT, MESSAGES, body, raw_client
from tests.deployments.far import CLAUDE, GPT, KEY, KEY_ENV, Far, far, planned
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import ECHO, echo, serving

TEXT = "Name the seven seas, Grüße 🐟"
EITHER = pytest.mark.parametrize("cloud", [CLAUDE, GPT])
BOTH = pytest.mark.parametrize("path", [MESSAGES, CHAT])
STREAMED = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture(scope="module")
def edge() -> Iterator[Far]:
    with far() as found:
        yield found


def text_of(response: httpx.Response, path: str) -> str:
    tree = response.json()
    said = tree["content"][0]["text"] if path == MESSAGES else tree["choices"][0]["message"]["content"]
    assert isinstance(said, str)
    return said


@EITHER
def test_the_anthropic_sdk_gets_the_answer_of_a_cloud(edge: Far, cloud: str) -> None:
    with anthropic.Anthropic(base_url=edge.served.url, api_key="local", max_retries=0) as client:
        message = client.messages.create(model=cloud, max_tokens=100, messages=[{"role": "user", "content": TEXT}])
        with client.messages.stream(
            model=cloud, max_tokens=100, messages=[{"role": "user", "content": TEXT}]
        ) as stream:
            streamed = stream.get_final_message()
    for answer in (message, streamed):
        [block] = answer.content
        assert isinstance(block, TextBlock)
        assert (block.text, answer.stop_reason, answer.model) == (TEXT, "end_turn", cloud)
        assert answer.usage.input_tokens > 0 < answer.usage.output_tokens


@EITHER
def test_the_openai_sdk_gets_the_answer_of_a_cloud(edge: Far, cloud: str) -> None:
    with openai.OpenAI(base_url=f"{edge.served.url}/v1", api_key="local", max_retries=0) as client:
        whole = client.chat.completions.create(model=cloud, messages=[{"role": "user", "content": TEXT}])
        chunks = client.chat.completions.create(model=cloud, messages=[{"role": "user", "content": TEXT}], stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == streamed == TEXT
    assert (whole.model, whole.choices[0].finish_reason) == (cloud, "stop")


@BOTH
@EITHER
@STREAMED
def test_an_answer_tells_which_cloud_gave_it(edge: Far, path: str, cloud: str, *, stream: bool) -> None:
    response = edge.ask(path, TEXT, f"{cloud}>echo", stream=stream)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, cloud)
    assert response.headers["x-shoal-route"].startswith(f'rule="{cloud}>echo";by=rule, to=("{cloud}" "echo")')
    assert "x-shoal-pool" not in response.headers
    assert f'"model":"{cloud}"' in response.text


def test_a_cloud_of_the_callers_dialect_gets_the_callers_own_body() -> None:
    cached = [{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}]
    asked = {"system": cached, "messages": [{"role": "user", "content": cached}], "metadata": {"user_id": "u"}}
    with far() as edge:
        assert edge.ask(MESSAGES, TEXT, "", model=CLAUDE, **asked).status_code == 200
        [entry] = edge.upstream.entries()
    sent = json.loads(entry.body)
    assert {name: sent[name] for name in asked} == asked
    assert (sent["model"], entry.headers["authorization"]) == ("claude-haiku-4-5", f"Bearer {KEY}")
    assert "x-shoal-role" not in entry.headers


@BOTH
@EITHER
@STREAMED
def test_a_local_model_answers_for_a_cloud_that_fails(path: str, cloud: str, *, stream: bool) -> None:
    with far("faults: [500]") as edge:
        response = edge.ask(path, TEXT, f"{cloud}>echo", stream=stream)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, "echo")
    assert f'to=("echo"), lost=("{cloud}";why="broken: CloudBroken"' in response.headers["x-shoal-route"]
    assert response.headers["x-shoal-pool"] == "OnnxPool-echo-cpu"


@BOTH
@STREAMED
@pytest.mark.parametrize("refusal", [EngineFailed("it broke"), Overloaded("echo", 30.0)])
def test_a_cloud_answers_for_a_local_model_that_cannot(path: str, refusal: ShoalError, *, stream: bool) -> None:
    engine = HandEngine()
    engine.refusal = refusal
    with far(echo=[engine]) as edge:
        response = edge.ask(path, TEXT, f"echo>{CLAUDE}", stream=stream)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, CLAUDE)
    assert stream or text_of(response, path) == TEXT


def test_a_prompt_that_is_too_long_here_goes_to_a_cloud(edge: Far) -> None:
    response = edge.ask(CHAT, "x" * 300, f"tiny>{GPT}")
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, GPT)
    assert 'lost=("tiny";why="prompt is too long: ' in response.headers["x-shoal-route"]


def test_one_cloud_answers_for_another() -> None:
    with far(f"faults: [{{kind: status, status: 529, when: {{model: {CLAUDE.partition('/')[2]}}}}}]") as edge:
        response = edge.ask(CHAT, TEXT, f"{CLAUDE}>{GPT}")
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, GPT)


def test_a_form_that_no_cloud_can_be_held_to_is_left_to_the_local_model() -> None:
    with far() as edge:
        response = edge.ask(CHAT, TEXT, f"{CLAUDE}>echo", guided_regex="[a-z]+")
        assert edge.upstream.entries() == []
    assert "the echo engine repeats its prompt" in response.json()["error"]["message"]


@EITHER
def test_a_busy_cloud_is_told_in_both_sdks_own_errors_with_its_time(cloud: str) -> None:
    with far("faults: [{kind: status, status: 429, retry_after_s: 30}]") as edge:
        claude = anthropic.Anthropic(base_url=edge.served.url, api_key="local", max_retries=0)
        with claude, pytest.raises(anthropic.RateLimitError) as first:
            claude.messages.create(model=cloud, max_tokens=9, messages=[{"role": "user", "content": TEXT}])
        gpt = openai.OpenAI(base_url=f"{edge.served.url}/v1", api_key="local", max_retries=0)
        with gpt, pytest.raises(openai.RateLimitError) as second:
            gpt.chat.completions.create(model=cloud, messages=[{"role": "user", "content": TEXT}])
    assert [25 <= int(error.value.response.headers["retry-after"]) <= 30 for error in (first, second)] == [True, True]


def test_a_cloud_that_is_left_alone_says_when_it_will_be_asked_again() -> None:
    def changed(plan: AppPlan) -> AppPlan:
        return replace(plan, routing=replace(plan.routes, retries=Retries(0), breaker=Limits(1, rest_s=60.0)))

    with far("faults: [{kind: status, status: 500}]", changed=changed) as edge:
        answers = [httpx.post(edge.served.url + CHAT, json=body(TEXT, model=GPT), timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 503]
    assert "retry-after" not in answers[0].headers
    assert 50 <= int(answers[1].headers["retry-after"]) <= 67


@BOTH
@EITHER
def test_an_answer_that_breaks_off_ends_in_the_dialects_error(path: str, cloud: str) -> None:
    with far("faults: [{kind: cut, after_tokens: 4}]") as edge:
        response = edge.ask(path, TEXT, f"{cloud}>echo", stream=True)
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, cloud)
    assert "Name" in response.text
    assert ("event: error" if path == MESSAGES else '{"error":') in response.text
    assert "message_stop" not in response.text


@BOTH
def test_the_head_of_a_quiet_stream_does_not_wait_for_ever_and_its_answer_comes(path: str) -> None:
    def impatient(plan: AppPlan) -> AppPlan:
        return replace(plan, http=replace(plan.http, ping_interval_s=0.05))

    engine = HandEngine()
    asked = {**body(TEXT, stream=True), "model": "auto"}
    with far(changed=impatient, echo=[engine]) as edge, httpx.Client(timeout=20) as client:
        headers = {"x-shoal-role": f"echo>{CLAUDE}"}
        with client.stream("POST", edge.served.url + path, json=asked, headers=headers) as response:
            assert (response.status_code, "x-shoal-model" in response.headers) == (200, False)
            stream = engine.next()
            stream.say("at last")
            stream.end()
            assert b"at last" in b"".join(response.iter_bytes())


def test_who_leaves_ends_the_answer_of_the_cloud_too() -> None:
    with far("faults: [{kind: slow_tokens, delay_s: 0.2}]") as edge:
        with raw_client(edge.served.address) as client:
            client.post(
                MESSAGES,
                {
                    "model": CLAUDE,
                    "max_tokens": 99,
                    "stream": True,
                    "messages": [{"role": "user", "content": TEXT * 20}],
                },
            )
            client.read_until(b"text_delta")
        [entry] = edge.upstream.ended()
    assert entry.outcome is Outcome.CLIENT_GONE


def test_a_cloud_without_its_key_loses_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    with serving(planned("http://127.0.0.1:9")) as served:
        asked = Far(served, None)  # type: ignore[arg-type]
        routed, named = asked.ask(CHAT, TEXT, f"{CLAUDE}>echo"), asked.ask(CHAT, TEXT, model=CLAUDE)
    assert (routed.status_code, routed.headers["x-shoal-model"], named.status_code) == (200, "echo", 503)
    assert f"set {KEY_ENV} to its key" in named.json()["error"]["message"]
    assert 'why="the cloud ant is not available' in routed.headers["x-shoal-route"]


def test_what_a_cloud_costs_is_entered_and_counted(edge: Far) -> None:
    edge.served.entries.clear()
    answer = edge.ask(MESSAGES, TEXT, f"{CLAUDE}>echo").json()
    [entry] = edge.served.on_loop(lambda: list(edge.served.entries))
    used = answer["usage"]
    assert (entry.model, entry.rule, entry.prompt) == (CLAUDE, f"rule {CLAUDE}>echo", used["input_tokens"])
    assert entry.cost_nano == nano_of((used["input_tokens"] * 1.0 + used["output_tokens"] * 5.0) / 1e6) > 0
    page = httpx.get(f"{edge.served.url}/metrics").text
    assert f'shoal_chain_tries_total{{pool="{CLAUDE}",reason="answered"}}' in page


class Purse:
    """Has `nano` to give. Keeps what was reserved."""

    def __init__(self, nano: int) -> None:
        self.nano = nano
        self.reserved: list[int] = []

    def reserve(self, reservation: Reservation) -> None:
        if reservation.nano > self.nano:
            raise BudgetSpent("all")
        self.reserved.append(reservation.nano)

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return [Taken(0) for _ in claims]


def test_money_is_held_before_a_cloud_is_asked_and_settled_with_what_it_cost() -> None:
    settled: list[Settlement] = []
    purse, budget = Purse(10**9), Budget("all", 10**9)
    with far(budgets=Budgets((budget,), purse, settled.append)) as edge:
        edge.ask(MESSAGES, TEXT, f"{CLAUDE}>echo")
        [entry], [hold] = edge.served.on_loop(lambda: (list(edge.served.entries), list(settled)))
    assert 0 < hold.cost_nano == entry.cost_nano < purse.reserved[0]


def test_a_cloud_that_is_too_dear_for_the_budget_is_not_asked() -> None:
    with far(budgets=Budgets((Budget("all", 9),), Purse(9), lambda _: None)) as edge:
        response = edge.ask(MESSAGES, TEXT, f"{CLAUDE}>echo")
        assert edge.upstream.entries() == []
    assert (response.status_code, response.headers["x-shoal-model"]) == (200, "echo")
    assert 'why="unfit: BudgetSpent"' in response.headers["x-shoal-route"]


def test_what_a_key_has_used_of_a_cloud_is_counted_by_the_clouds_own_count() -> None:
    id_ = new_id()
    secret, digest = created(id_)
    keyring = Keyring(lambda: [StoredKey(Key(id_, "test", 1.0, frozenset(Scope)), digest)])
    with far(keyring=keyring) as edge:
        asked = {**body(TEXT), "model": CLAUDE}
        answer = httpx.post(edge.served.url + MESSAGES, json=asked, headers={"x-api-key": secret}).json()
        [use] = edge.served.on_loop(lambda: list(edge.served.uses))
        [entry] = edge.upstream.entries()
    assert (use.key_id, use.model, use.generated) == (id_, CLAUDE, answer["usage"]["output_tokens"])
    assert secret.encode() not in entry.raw


def test_a_call_that_came_in_no_dialect_is_put_to_a_cloud_and_to_local_models(edge: Far) -> None:
    async def texts() -> list[str]:
        told = []
        for model in (CLAUDE, GPT, "echo"):
            call = Call("j-1", model, (Message("user", TEXT),), Sampling(100), is_stream=True)
            told.append("".join([chunk.text async for chunk in edge.served.answerer.answer(call)]))
        return told

    assert asyncio.run_coroutine_threadsafe(texts(), edge.served.loop).result(30) == [TEXT] * 3


def test_tokens_for_a_cloud_are_estimated(edge: Far) -> None:
    asked = {"model": CLAUDE, "messages": [{"role": "user", "content": "word " * 100}]}
    counted = httpx.post(f"{edge.served.url}/v1/messages/count_tokens", json=asked).json()["input_tokens"]
    assert 100 <= counted <= 150


def test_a_service_without_clouds_loads_none_of_their_packages() -> None:
    code = (
        "import sys, deployments.ingress; print(sorted({'anthropic', 'detect_secrets', 'stdnum'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SECRETS = ("mail jane.doe@acme-harbour.com", "pay with 4111 1111 1111 1111", "sk-ant-api03-" + "a1B2c3D4" * 5)
STORM = "seed: 3\nfaults: [{kind: status, status: 529, probability: 0.3}, {kind: reset, probability: 0.3}]"


def private_requests(edge: Far) -> list[httpx.Response]:
    """50 of them: marked or found out, along every kind of route, in both dialects, streamed and whole."""

    def ask(number: int) -> httpx.Response:
        secret = SECRETS[number % 3]
        places: list[dict[str, object]] = [
            {"messages": [{"role": "user", "content": [{"type": "text", "text": f"hello {secret}"}]}]},
            {
                "system": f"you know {secret}",
                "messages": [{"role": "system", "content": f"or {secret}"}, {"role": "user", "content": "go on"}],
            },
            {"messages": [{"role": "user", "content": "nothing to find"}]},
        ]
        place = number % 7 % 3
        headers = {"x-shoal-private": "1"} if place == 2 else {}
        routes: list[dict[str, str]] = [{"x-shoal-role": f"{CLAUDE}>echo"}, {"x-shoal-role": f"echo>{CLAUDE}"}, {}]
        model = (CLAUDE, GPT)[number % 2] if number % 5 == 0 else "auto"
        tree = {"model": model, "max_tokens": 20, "stream": number % 4 == 0, **places[place]}
        path = edge.served.url + (MESSAGES, CHAT)[number % 2]
        return httpx.post(path, json=tree, headers={**headers, **routes[number % 3]}, timeout=60)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(50)))


@pytest.mark.parametrize(
    ("refusal", "statuses"), [(None, {200, 403, 429}), (EngineFailed("it broke"), {403, 500})], ids=["up", "broken"]
)
def test_not_a_byte_of_fifty_private_requests_reaches_a_cloud(refusal: ShoalError | None, statuses: set[int]) -> None:
    broken = HandEngine()
    broken.refusal = refusal
    with far(STORM, "prefer-cloud", echo=[broken if refusal else echo(ECHO)]) as edge:
        answers = private_requests(edge)
        received = edge.upstream.entries()
        edge.ask(CHAT, "nothing private", model=GPT)
        assert (received, bool(edge.upstream.entries())) == ([], True)  # and the way there is open
    assert {answer.headers.get("x-shoal-model") for answer in answers} <= {"echo", "tiny", None}
    assert {403} < {answer.status_code for answer in answers} <= statuses


@pytest.mark.parametrize("marks", [("0", "1"), ("1", "0"), ("no", "no", "yes")])
def test_of_two_marks_the_one_that_says_private_counts(edge: Far, marks: tuple[str, ...]) -> None:
    headers, text = [("x-shoal-private", mark) for mark in marks], f"marked {marks}"
    answer = httpx.post(edge.served.url + MESSAGES, json=body(text, model=CLAUDE), headers=headers, timeout=30)
    assert answer.status_code == 403
    assert [entry for entry in edge.upstream.entries() if b"marked" in entry.body] == []

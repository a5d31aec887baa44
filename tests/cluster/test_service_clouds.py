"""Clouds behind a real instance: requests and jobs reach them, budgets and private keys hold for both."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import shoal
from router.keys.key import USUAL, Key, Scope, StoredKey, created, new_id
from router.store import Store, StoreAddress, open_store
from tests.cluster.conftest import Service, free_port
from tests.cluster.test_service_faults import wait_until
from tests.cluster.upstream.played import Played, playing

pytestmark = pytest.mark.cluster

CLAUDE, GPT = "ant/claude-haiku-4-5", "oai/gpt"
KEY_ENV = "SHOAL_TEST_CLOUD_KEY"
SCRIPT = """
faults:
  - {kind: status, status: 500, when: {contains: this fails}}
  - {kind: wrong_usage, when: {contains: this is dear}}
"""
SETTINGS = """
http: {port: %(port)d}
models:
  - {name: echo, cpus_per_replica: 0.05, engine: {kind: echo}}
  - {name: tiny, cpus_per_replica: 0.05, engine: {kind: echo, context_tokens: 64}}
clouds:
  - {name: ant, kind: anthropic, base_url: "%(url)s", key_env: SHOAL_TEST_CLOUD_KEY, models: [{name: claude-haiku-4-5}]}
  - {name: oai, kind: openai, base_url: "%(url)s/v1", key_env: SHOAL_TEST_CLOUD_KEY,
     models: [{name: gpt, price: claude-haiku-4-5}]}
routing:
  retries: {times: 1, base_s: 0.05}
  rules:
    - {name: cloud first, when: {role: clouds, private: false}, to: [claude-haiku-4-5, echo]}
    - {name: here first, when: {role: here, private: false}, to: [tiny, gpt]}
    - {name: judged, when: {role: judged, private: false}, to: [echo, gpt], gate: {least_characters: 30}}
    - {name: private ones, when: {private: true}, to: local-only}
budgets:
  - {name: each-job, usd: 0.01, each: job, period: total}
"""


@dataclass(frozen=True)
class Clouded:
    """A running instance with clouds, and its store; `open_key` may send to them, `private_key` may not."""

    service: Service
    upstream: Played
    store: Store
    open_key: str
    private_key: str
    admin_key: str

    def ask(self, text: str, role: str = "", model: str = "auto", job: str = "", most: int = 40) -> httpx.Response:
        headers = {"x-shoal-role": role, "x-shoal-job": job, "x-api-key": self.open_key}
        tree = {"model": model, "max_tokens": most, "messages": [{"role": "user", "content": text}]}
        return httpx.post(f"{self.service.url}/v1/messages", json=tree, headers=headers, timeout=60)

    def run(self, key: str, role: str, *texts: str) -> shoal.Result:
        """What a job of one agent makes of `texts`."""
        agent = shoal.Agent(role=role, prompt="{text}")
        with shoal.connect(self.service.url, key) as client:
            return client.submit(shoal.Swarm(agents=[agent], over={"text": texts}, max_tokens=300)).result()

    def sent(self, text: str) -> list[str]:
        """The models of clouds that were asked about `text`."""
        return [str(entry.model) for entry in self.upstream.entries() if text.encode() in entry.body]


@pytest.fixture(scope="module")
def clouded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouded]:
    home = tmp_path_factory.mktemp("clouded")
    service = Service(home, free_port())
    with playing(SCRIPT) as upstream, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_ENV, "the-key-of-the-cloud")
        settings = home / "shoal.yaml"
        settings.write_text(SETTINGS % {"port": service.port, "url": upstream.url})
        store = open_store(StoreAddress.of_file(home / "shoal.sqlite"))
        keys = (made(store), made(store, is_private=True), made(store, Scope.ADMIN))
        started = service.shoal("up", "--detach", "--config", str(settings))
        assert started.returncode == 0, started.stderr
        yield Clouded(service, upstream, store, *keys)
        store.close()
        assert service.shoal("down", "--port", str(service.port)).returncode == 0


def made(store: Store, *scopes: Scope, is_private: bool = False) -> str:
    """A new key."""
    key = Key(new_id(), "test", time.time(), frozenset(scopes) or USUAL, is_private=is_private)
    text, digest = created(key.id)
    store.keys.add(StoredKey(key, digest))
    return text


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text = response.json()["content"][0]["text"]
    assert isinstance(text, str)
    return text


def test_a_cloud_answers_and_local_models_and_clouds_stand_in_for_each_other(clouded: Clouded) -> None:
    by_name, by_rule = clouded.ask("hello there", model=GPT), clouded.ask("good morning", "clouds")
    failed, long = clouded.ask("this fails there", "clouds"), clouded.ask("a long word " * 9, "here")
    poor = clouded.ask("too short", "judged")
    answers = (by_name, by_rule, failed, long, poor)
    assert [text_of(answer).strip() for answer in answers[:3]] == ["hello there", "good morning", "this fails there"]
    assert [answer.headers["x-shoal-model"] for answer in answers] == [GPT, CLAUDE, "echo", GPT, GPT]
    assert f'lost=("{CLAUDE}";why="broken: CloudBroken"' in failed.headers["x-shoal-route"]
    assert 'lost=("tiny";why="prompt is too long: ' in long.headers["x-shoal-route"]
    assert 'lost=("echo";why="rejected: length"' in poor.headers["x-shoal-route"]


def test_a_spent_budget_leaves_requests_to_local_models(clouded: Clouded) -> None:
    dear = clouded.ask("this is dear " * 80, model=CLAUDE, job="poor", most=400)
    assert (text_of(dear)[:12], dear.headers["x-shoal-model"]) == ("this is dear", CLAUDE)
    assert wait_until(lambda: clouded.ask("is it?", model="echo", job="poor").headers["x-shoal-budget"] == "spent", 20)
    after = clouded.ask("and now", model=CLAUDE, job="poor")
    assert (text_of(after), after.headers["x-shoal-model"]) == ("and now", "echo")
    assert f'lost=("{CLAUDE}";why="the budget is spent"' in after.headers["x-shoal-route"]
    assert clouded.sent("and now") == []
    assert clouded.ask("another one", model=CLAUDE, job="rich").headers["x-shoal-model"] == CLAUDE


def test_the_calls_of_a_job_go_to_clouds_on_the_books_of_its_key(clouded: Clouded) -> None:
    key = made(clouded.store)
    result = clouded.run(key, "clouds", "one word", "another word")
    assert [output.text for output in result.outputs] == ["one word", "another word"]
    assert [clouded.sent(text) for text in ("one word", "another word")] == [["claude-haiku-4-5"]] * 2
    assert wait_until(lambda: used(clouded, key) == (2, tokens(result)), 20)
    assert listed(clouded, key) == (2, tokens(result))
    told = clouded.service.shoal("costs", "--by", "job", "--by", "key", "--json", "--config", str(config(clouded)))
    jobs = [row for row in json.loads(told.stdout)["by"]["job"] if str(row["name"]).startswith("swarm_")]
    assert [(row["answers"], row["spent_usd"] > 0) for row in jobs] == [(2, True)]
    page = httpx.get(f"{clouded.service.url}/metrics/swarms", headers={"x-api-key": clouded.admin_key}, timeout=30)
    assert f'shoal_chain_tries_total{{pool="{CLAUDE}",reason="answered"}} 2.0' in page.text


def test_a_jobs_budget_is_its_own_and_past_it_local_models_go_on(clouded: Clouded) -> None:
    texts = [f"this is dear {number}, so they say" + ", and it has many words" * 9 for number in range(6)]
    result = clouded.run(clouded.open_key, "clouds", *texts)
    assert [output.text for output in result.outputs] == texts
    assert len(clouded.sent("so they say")) < len(texts)


def test_nothing_of_a_private_keys_job_leaves(clouded: Clouded) -> None:
    result = clouded.run(clouded.private_key, "clouds", "quiet please")
    assert [output.text for output in result.outputs] == ["quiet please"]
    assert clouded.sent("quiet please") == []


def config(clouded: Clouded) -> Path:
    return clouded.service.home / "shoal.yaml"


def used(clouded: Clouded, key: str) -> tuple[int, int]:
    """Requests and tokens on `key`."""
    requests, tokens, _ = clouded.store.usage.totals().get(key.split("-")[2], (0, 0, ""))
    return requests, tokens


def listed(clouded: Clouded, key: str) -> tuple[int, int]:
    """The same, as the command tells it."""
    told = json.loads(clouded.service.shoal("keys", "list", "--json", "--config", str(config(clouded))).stdout)
    found = next(one["used"] for one in told if key.startswith(f"sk-shoal-{one['id']}-"))
    return found["requests"], found["tokens"]


def tokens(result: shoal.Result) -> int:
    return sum(output.usage.prompt + output.usage.generated for output in result.outputs)

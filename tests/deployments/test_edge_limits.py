"""Limits and usage of keys over a socket: a refusal is quick and says when, and what was made is counted."""

import time
from collections.abc import Iterator

import httpx
import pytest

from router.keys import Key, Limits, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from router.store import Use
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import Served, serving

KEYS: list[StoredKey] = []


def make(**limits: int) -> dict[str, str]:
    """The headers of a new key."""
    id_ = new_id()
    text, digest = created(id_)
    KEYS.append(StoredKey(Key(id_, "test", 1.0, frozenset(Scope), Limits(**limits)), digest))
    return {"x-api-key": text}


def id_of(headers: dict[str, str]) -> str:
    return headers["x-api-key"].split("-")[2]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    make()
    with serving(keyring=Keyring(lambda: list(KEYS))) as served:
        yield served


def uses(served: Served, headers: dict[str, str]) -> list[Use]:
    """What was counted for a key, once nothing of it is under way."""
    return served.on_loop(lambda: [use for use in served.uses if use.key_id == id_of(headers)])


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_past_a_rate_the_answer_is_429_with_the_time_to_come_back(served: Served, path: str) -> None:
    headers = make(requests_per_minute=2)
    answers = [httpx.post(served.url + path, json=body(), headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert "2 requests a minute" in answers[2].json()["error"]["message"]


def test_looking_around_does_not_count(served: Served) -> None:
    headers = make(requests_per_minute=1)
    assert {httpx.get(f"{served.url}/v1/models", headers=headers).status_code for _ in range(3)} == {200}
    assert httpx.post(served.url + CHAT, json=body(), headers=headers).status_code == 200


@pytest.mark.parametrize("is_stream", [False, True])
def test_tokens_of_prompt_and_answer_are_counted(served: Served, is_stream: bool) -> None:
    headers = make()
    told = httpx.post(served.url + MESSAGES, json=body("twelve words"), headers=headers).json()["usage"]
    httpx.post(served.url + MESSAGES, json=body("twelve words", stream=is_stream), headers=headers)
    found = uses(served, headers)
    assert [(use.requests, use.prompt, use.generated) for use in found] == [
        (1, told["input_tokens"], told["output_tokens"])
    ] * 2
    assert {use.model for use in found} == {"echo"}


def test_past_the_tokens_of_a_minute_the_next_request_waits(served: Served) -> None:
    headers = make(tokens_per_minute=30)
    statuses = [httpx.post(served.url + CHAT, json=body("x" * 60), headers=headers).status_code for _ in range(2)]
    assert statuses == [200, 429]


def test_embeddings_count_their_prompts(served: Served) -> None:
    headers = make(requests_per_minute=1)
    asked = {"model": "echo", "input": ["one", "two"]}
    answers = [httpx.post(f"{served.url}/v1/embeddings", json=asked, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    [use] = uses(served, headers)
    assert (use.prompt, use.generated) == (answers[0].json()["usage"]["prompt_tokens"], 0)


def test_requests_without_a_key_are_nobodys() -> None:
    with serving() as open_:
        assert httpx.post(open_.url + CHAT, json=body()).status_code == 200
        assert open_.uses == []


def test_who_leaves_early_pays_for_what_was_made_and_frees_the_place() -> None:
    engine, headers = HandEngine(), make(concurrency=1)
    with serving(keyring=Keyring(lambda: list(KEYS)), echo=[engine]) as served:
        with httpx.stream("POST", served.url + CHAT, json=body(stream=True), headers=headers) as answer:
            engine.next().say("abc")
            parts = answer.iter_bytes()
            assert any(b"abc" in part for part in parts)
            assert status_of_nonsense(served, headers) == 429
        give_up_s = time.monotonic() + 20
        while status_of_nonsense(served, headers) == 429 and time.monotonic() < give_up_s:
            time.sleep(0.02)
        assert status_of_nonsense(served, headers) == 400
        assert [use.generated for use in uses(served, headers)] == [1]


def status_of_nonsense(served: Served, headers: dict[str, str]) -> int:
    """400 for a body that is none, if the key has a place left."""
    return httpx.post(served.url + CHAT, content=b"{", headers=headers).status_code

"""Sessions over a socket: saved from one service, loaded into another, where the next turn finds its KV."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from deployments.plan import AppPlan, EnginePlan, HttpPlan, PoolPlan
from tests.deployments.asking import CHAT
from tests.deployments.served import ECHO, Served, serving
from tests.replicas.engines import slot_engine, tiny

TURN = {"role": "user", "content": "the user and the system " * 10}
LIMIT_BYTES = 2_000_000


def running() -> Iterator[Served]:
    pool = PoolPlan("small", tiny().directory, EnginePlan(slots=4), context_tokens=256)
    plan = AppPlan((pool, ECHO), "small", HttpPlan(session_limit_bytes=LIMIT_BYTES))
    with serving(plan, small=[slot_engine()]) as served:
        yield served


@pytest.fixture(scope="module")
def here() -> Iterator[Served]:
    yield from running()


@pytest.fixture(scope="module")
def there() -> Iterator[Served]:
    yield from running()


def cached(served: Served, session_id: str) -> int:
    """How much of the prompt a turn in the session finds."""
    body = {"model": "small", "max_tokens": 2, "messages": [TURN], "session_id": session_id, "temperature": 0}
    answer = httpx.post(served.url + CHAT, json=body, timeout=30).json()
    tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def kv(served: Served, session_id: str, model: str = "small") -> str:
    return f"{served.url}/v1/sessions/{session_id}/kv?model={model}"


def test_a_session_goes_on_in_another_service(here: Served, there: Served) -> None:
    assert cached(here, "talk/1") == 0
    saved = httpx.get(kv(here, "talk/1"), timeout=30)
    assert (saved.status_code, saved.headers["content-type"]) == (200, "application/octet-stream")
    assert int(saved.headers["content-length"]) == len(saved.content)
    loaded = httpx.put(kv(there, "talk/2"), content=saved.content, timeout=30)
    assert (loaded.status_code, loaded.json()["session_id"]) == (200, "talk/2")
    assert loaded.json()["tokens"] == cached(there, "talk/2") > 0
    assert httpx.get(kv(there, "talk/2"), timeout=30).status_code == 200


def test_an_unknown_session_and_an_unknown_model_are_not_found(here: Served) -> None:
    for url, words in [(kv(here, "ghost"), "session 'ghost'"), (kv(here, "x", "ghost"), "model 'ghost'")]:
        answer = httpx.get(url)
        assert answer.status_code == 404
        assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"SHOALKV1 but not really", b"x" * 1_500_000])
def test_what_is_no_session_is_refused(here: Served, content: bytes) -> None:
    answer = httpx.put(kv(here, "x"), content=content, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "data")


def test_an_engine_without_kv_refuses(here: Served) -> None:
    assert httpx.get(kv(here, "x", "echo")).status_code == 400


def test_a_session_over_the_bound_is_too_large(here: Served) -> None:
    content = b"x" * (LIMIT_BYTES + 1)
    for sent in (content, iter([content])):  # its length declared, and not
        assert httpx.put(kv(here, "x"), content=sent, timeout=30).status_code == 413


def test_without_a_replica_nothing_is_available() -> None:
    plan = AppPlan((replace(ECHO, model="none"),), "none")
    with serving(plan, none=[]) as served:
        assert httpx.get(kv(served, "x", "none")).status_code == 503

"""The door of the edge over a socket: who gets in with which key, and which web pages do not."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NoReturn

import anthropic
import httpx
import openai
import pytest

from deployments.authentication import OPEN, Authentication, Door, scope_of
from deployments.error_responses import ErrorResponses
from router.anthropic import AnthropicDialect
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from router.keys.limiter import Limiter
from router.openai import OpenAIDialect
from router.store import Store, StoreAddress, open_store
from tests.deployments.asking import CHAT, MESSAGES, body
from tests.deployments.served import PLAN, Served, serving

Make = Callable[..., str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = open_store(StoreAddress.of_file(tmp_path_factory.mktemp("store") / "shoal.sqlite"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def make(store: Store) -> Make:
    """Makes a key and gives its text."""

    def make(*scopes: Scope, revoked_at: float | None = None) -> str:
        id_ = new_id()
        text, digest = created(id_)
        store.keys.add(StoredKey(Key(id_, "test", 1.0, frozenset(scopes), revoked_at=revoked_at), digest))
        return text

    return make


@pytest.fixture(scope="module")
def closed(store: Store, make: Make) -> Iterator[Served]:
    """An edge that wants keys."""
    make(Scope.ADMIN)
    with serving(keyring=Keyring(store.keys.all)) as served:
        yield served


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An edge without keys, that may also be called by a name and a page."""
    http = replace(PLAN.http, allowed_hosts=("shoal.example.com",), allowed_origins=("https://ui.example.com",))
    with serving(replace(PLAN, http=http)) as served:
        yield served


@pytest.mark.parametrize("path", sorted(OPEN))
def test_probes_need_no_key(closed: Served, path: str) -> None:
    assert httpx.get(closed.url + path).status_code == 200


@pytest.mark.parametrize("path", [MESSAGES, CHAT, "/v1/embeddings", "/v1/models", "/v1/swarms", "/status", "/metrics"])
def test_everything_else_does(closed: Served, path: str) -> None:
    answer = httpx.get(closed.url + path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["request-id"]


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_a_key_is_taken_from_either_header(closed: Served, make: Make, header: str) -> None:
    text = make(Scope.INFERENCE)
    headers = {header: text if header == "x-api-key" else f"Bearer {text}"}
    assert httpx.post(closed.url + CHAT, json=body(), headers=headers).status_code == 200


def test_both_sdks_get_in_with_a_key_and_raise_their_own_errors_without(closed: Served, make: Make) -> None:
    text = make(Scope.INFERENCE)
    messages = [{"role": "user", "content": "hi"}]
    with anthropic.Anthropic(base_url=closed.url, api_key=text) as client:
        assert client.messages.create(model="echo", max_tokens=5, messages=[{"role": "user", "content": "hi"}]).content
    with openai.OpenAI(base_url=f"{closed.url}/v1", api_key=text) as asked:
        assert asked.chat.completions.create(model="echo", messages=messages).choices  # type: ignore[arg-type]  # turns as JSON has them
    with anthropic.Anthropic(base_url=closed.url, api_key="x") as client, pytest.raises(anthropic.AuthenticationError):
        client.models.list()
    with (
        openai.OpenAI(base_url=f"{closed.url}/v1", api_key="local") as asked,
        pytest.raises(openai.AuthenticationError),
    ):
        asked.models.list()


@pytest.mark.parametrize(
    ("path", "scope"),
    [(MESSAGES, Scope.INFERENCE), ("/v1/embeddings", Scope.EMBEDDINGS), ("/status", Scope.ADMIN)],
)
def test_a_key_without_the_scope_is_forbidden(closed: Served, make: Make, path: str, scope: Scope) -> None:
    others = frozenset(Scope) - {scope}
    answer = httpx.post(closed.url + path, json=body(), headers={"x-api-key": make(*others)})
    assert answer.status_code == 403
    assert scope.value in answer.json()["error"]["message"]


def test_the_scope_is_enough(closed: Served, make: Make) -> None:
    assert httpx.get(f"{closed.url}/status", headers={"x-api-key": make(Scope.ADMIN)}).status_code == 200


def test_a_revoked_key_is_refused(closed: Served, make: Make) -> None:
    text = make(Scope.INFERENCE, revoked_at=5.0)
    answer = httpx.post(closed.url + MESSAGES, json=body(), headers={"x-api-key": text})
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_every_route_wants_the_scope_that_it_is_meant_to() -> None:
    wanted = {
        "/v1/messages": "inference",
        "/v1/messages/count_tokens": "inference",
        "/v1/chat/completions": "inference",
        "/v1/sessions/{session_id:path}/kv": "sessions",
        "/v1/embeddings": "embeddings",
        "/v1/models": None,
        "/v1/models/{model_id:path}": None,
        "/status": "admin",
        "/metrics": "admin",
        "/v1/anything/new": "admin",
        "/v1/messagesome": "admin",
        "/v1/swarms/x/events": "swarm",
    }
    assert {path: scope_of(path) for path in wanted} == wanted


def test_no_web_socket_gets_past_the_door() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def knock() -> None:
        door = Door(Keyring(), Limiter(), ErrorResponses(AnthropicDialect("m"), OpenAIDialect("m")), PLAN.http)
        await Authentication(never, door)({"type": "websocket", "path": "/"}, never, send)

    asyncio.run(knock())
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def never(*_: object) -> NoReturn:
    raise AssertionError("nobody comes here")


def test_an_open_edge_takes_any_key(open_: Served) -> None:
    for headers in ({}, {"x-api-key": "local"}, {"authorization": "Bearer none"}):
        assert httpx.post(open_.url + CHAT, json=body(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
    ],
)
def test_web_pages_are_kept_out_of_an_open_edge(open_: Served, headers: dict[str, str]) -> None:
    answer = httpx.post(open_.url + MESSAGES, json=body(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert "http.allowed_" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        {"host": "[::1]:8000"},
        {"host": "192.168.0.7:8000"},
        {"host": "gpu-box"},
        {"host": "shoal.example.com"},
        {"origin": "https://ui.example.com", "sec-fetch-site": "cross-site"},
        {"host": "localhost:8000", "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_callers_that_are_no_strange_page_get_in(open_: Served, headers: dict[str, str]) -> None:
    assert httpx.post(open_.url + MESSAGES, json=body(), headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_is_refused_with_what_to_send(open_: Served, kind: str) -> None:
    answer = httpx.post(open_.url + CHAT, json=body(), headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "content-type")


def test_a_page_may_ask_an_edge_that_wants_keys(closed: Served, make: Make) -> None:
    headers = {"x-api-key": make(Scope.INFERENCE), "origin": "https://evil.example", "host": "evil.example"}
    assert httpx.post(closed.url + CHAT, json=body(), headers=headers).status_code == 200

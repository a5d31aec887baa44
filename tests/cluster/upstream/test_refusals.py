"""Requests that the real services refuse: a translation that makes one is found out here."""

from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.upstream.played import CHAT, HEADERS, MESSAGES, Played, body, playing

TOOL = {"name": "find", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "t1", "name": "find", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
USER = {"role": "user", "content": "hi"}
FUNCTION_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
OBJECT_CALL = {**FUNCTION_CALL, "function": {"name": "find", "arguments": {}}}
CALLER = {"role": "assistant", "content": None, "tool_calls": [FUNCTION_CALL]}
ANTHROPIC = [
    ({"top_n": 1}, "top_n: Extra inputs are not permitted"),
    ({"response_format": {}}, "response_format: Extra inputs"),
    ({"max_tokens": 0}, "max_tokens: Input should be an integer"),
    ({"max_tokens": None}, "max_tokens"),
    ({"model": 3}, "model: Input should be a valid string"),
    ({"messages": []}, "at least one message"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Input tag 'image_url'"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
    ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
    ({"messages": [USER, {"role": "assistant", "content": "so "}]}, "trailing whitespace"),
    ({"messages": [USER, {"role": "assistant", "content": [CALL]}, USER]}, "without `tool_result` blocks"),
    ({"messages": [{"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
    ({"messages": [USER, {"role": "assistant", "content": [RESULT]}]}, "not permitted in `assistant`"),
    ({"messages": [USER, {"role": "assistant", "content": [{**CALL, "input": "{}"}]}]}, "tool_use.input"),
    ({"tools": [{"name": "find it", "input_schema": {"type": "object"}}]}, "should match pattern"),
    ({"tools": [{"name": "find", "parameters": {}}]}, "input_schema"),
    ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "lose"}}, "'lose' not found"),
    ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "tool_choice"),
    ({"temperature": 1.5}, "temperature"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "must be greater than"),
    ({"max_tokens": 5000, "temperature": 0, "thinking": {"type": "enabled", "budget_tokens": 2000}}, "set to 1"),
    ({"output_config": {"format": {"type": "json_object"}}}, "json_schema"),
]
OPENAI = [
    ({"messages": []}, "empty array"),
    ({"messages": [{"role": "human", "content": "x"}]}, "Supported values"),
    ({"messages": [{"role": "user", "content": None}]}, "expected a string"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "Invalid value: 'image'"),
    ({"messages": [USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}]}, "preceding message"),
    ({"messages": [USER, CALLER]}, "c1"),
    ({"messages": [USER, CALLER, USER]}, "must be followed by tool messages"),
    (
        {"messages": [USER, {**CALLER, "tool_calls": [OBJECT_CALL]}]},
        "arguments",
    ),
    ({"tools": []}, "empty array"),
    ({"tools": [TOOL]}, "tools.0.function"),
    ({"tool_choice": "required"}, "only allowed when"),
    ({"response_format": {"type": "xml"}}, "Supported values"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "json_schema.name"),
    ({"stream_options": {"include_usage": True}}, "only allowed when 'stream'"),
    ({"temperature": 3}, "temperature"),
    ({"n": -1}, "n: Input"),
]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with playing("keys: [test-key]") as played:
        yield played


def refused(played: Played, path: str, changes: dict[str, object]) -> str:
    response = httpx.post(f"{played.url}{path}", json={**body(path), **changes}, headers=HEADERS)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return str(error["message"])


@pytest.mark.parametrize(("changes", "words"), ANTHROPIC, ids=[words for _, words in ANTHROPIC])
def test_messages_refuse(played: Played, changes: dict[str, object], words: str) -> None:
    assert words in refused(played, MESSAGES, changes)


@pytest.mark.parametrize(("changes", "words"), OPENAI, ids=[words for _, words in OPENAI])
def test_chat_completions_refuse(played: Played, changes: dict[str, object], words: str) -> None:
    assert words in refused(played, CHAT, changes)


def test_messages_take_what_real_clients_send(played: Played) -> None:
    turns = [
        USER,
        {"role": "assistant", "content": [{"type": "text", "text": "so"}, CALL]},
        {"role": "user", "content": [{**RESULT, "is_error": True}, {"type": "text", "text": "and"}]},
        {"role": "system", "content": "reminder"},
        {"role": "assistant", "content": "The answer is ("},
    ]
    more = {
        "system": [{"type": "text", "text": "x-anthropic-billing-header: a", "cache_control": {"type": "ephemeral"}}],
        "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}],
        "metadata": {"user_id": "{}"},
        "context_management": {},
        "thinking": {"type": "adaptive"},
        "top_k": 5,
    }
    response = httpx.post(
        f"{played.url}{MESSAGES}?beta=true",
        json={**body(), "messages": turns, **more},
        headers={**HEADERS, "anthropic-beta": "anything-2026-01-01"},
    )
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_the_question_is_the_last_text_of_the_user(played: Played, path: str) -> None:
    parts = [{"type": "text", "text": text} for text in ("a reminder", "the question")]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "so"}]
    response = httpx.post(f"{played.url}{path}", json=body(path, messages=turns), headers=HEADERS)
    assert ("the question" in response.text, "reminder" in response.text) == (True, False)


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        (MESSAGES, {"anthropic-version": "1"}, 401, "authentication_error"),
        (MESSAGES, {**HEADERS, "authorization": "Bearer other"}, 401, "invalid x-api-key"),
        (CHAT, {"x-api-key": "test-key"}, 401, "invalid_api_key"),
        (MESSAGES, {"x-api-key": "test-key"}, 400, "anthropic-version"),
        (MESSAGES, {**HEADERS, "content-type": "text/plain"}, 400, "content-type"),
        ("/v1/none", HEADERS, 404, "Not Found"),
    ],
)
def test_keys_versions_and_paths_are_checked(
    played: Played, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    response = httpx.post(f"{played.url}{path}", json=body(path), headers=headers)
    assert (response.status_code, words in response.text) == (status, True), response.text


def test_a_body_that_is_no_json_is_refused(played: Played) -> None:
    headers = {**HEADERS, "content-type": "application/json"}
    assert httpx.post(f"{played.url}{CHAT}", content=b'{"model": ', headers=headers).status_code == 400


def test_the_probes_of_clients_find_it_up(played: Played) -> None:
    probes = [(method, path) for method in ("GET", "HEAD") for path in ("/", "/api/hello")]
    assert [httpx.request(method, f"{played.url}{path}").status_code for method, path in probes] == [200] * 4

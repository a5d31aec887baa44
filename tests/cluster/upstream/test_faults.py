"""Each way to misbehave, as it looks on the wire, in every protocol that has it."""

import json
from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

from tests.cluster.upstream.played import CHAT, HEADERS, MESSAGES, ROUTER, Played, body, playing

PATHS = (MESSAGES, CHAT, ROUTER)
TOOL = {"name": "find", "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}}}
FUNCTION = {"type": "function", "function": {"name": "find", "parameters": TOOL["input_schema"]}}
SCRIPT = """
answers:
  - {when: {has_tools: true}, text: Two., calls: [{name: find, input: {key: abcdefgh}}, {name: find, input: {key: b}}]}
"""


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with playing(SCRIPT) as played:
        yield played


def sent(played: Played, path: str, fault: object, **more: object) -> httpx.Response:
    headers = {**HEADERS, "x-upstream-fault": json.dumps(fault)}
    return httpx.post(f"{played.url}{path}", json=body(path, **more), headers=headers, timeout=20)


def with_tools(path: str) -> dict[str, object]:
    return {"tools": [TOOL if path == MESSAGES else FUNCTION]}


def events(text: str) -> list[object]:
    """The JSON of all events; raises ValueError where one is none."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def at(tree: object, *path: str | int) -> object:
    """What is at `path` in JSON; None if nothing is."""
    for step in path:
        if isinstance(tree, dict):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def words(event: object) -> str:
    """The text that an event of any protocol carries."""
    found = (at(event, "delta", "text"), at(event, "choices", 0, "delta", "content"))
    return next((text for text in found if isinstance(text, str)), "")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_status_comes_in_the_protocols_own_words(played: Played, path: str, status: int) -> None:
    fault = {"kind": "status", "status": status, "retry_after_s": 1.5, "retry_after_ms": 20, "message": "told to"}
    response = sent(played, path, fault)
    assert (response.status_code, response.headers["retry-after"], response.headers["retry-after-ms"]) == (
        status,
        "1.5",
        "20",
    )
    error = response.json()["error"]
    assert error["message"] == "told to"
    kinds = {429: "rate_limit_error", 529: "overloaded_error"}
    assert path != MESSAGES or error["type"] == kinds.get(status, "api_error")
    assert path != ROUTER or error["code"] == status


def test_the_sdks_wait_and_try_again(played: Played) -> None:
    faults = "faults: [{kind: status, status: 429, retry_after_ms: 1, times: 2}]"
    httpx.put(f"{played.url}/_upstream/script", content=faults).raise_for_status()
    with anthropic.Anthropic(base_url=played.url, api_key="k", max_retries=2) as claude:
        message = claude.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    assert message.stop_reason == "end_turn"
    assert [entry.status for entry in played.entries()[-3:]] == [429, 429, 200]
    httpx.put(f"{played.url}/_upstream/script", content=SCRIPT).raise_for_status()


def test_an_unreadable_fault_is_told(played: Played) -> None:
    response = sent(played, MESSAGES, "no-such-kind")
    assert response.status_code == 400
    assert "x-upstream-fault" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_reset_and_a_cut_are_connection_errors(played: Played, path: str, is_stream: bool) -> None:
    with pytest.raises(httpx.ReadError):
        sent(played, path, "reset", stream=is_stream)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        sent(played, path, "cut", stream=is_stream)


@pytest.mark.parametrize("path", PATHS)
def test_a_reset_in_a_stream_is_one_too(played: Played, path: str) -> None:
    with pytest.raises(httpx.ReadError):
        sent(played, path, {"kind": "reset", "after_tokens": 2}, stream=True)
    [*_, entry] = played.ended()
    assert (entry.outcome, entry.tokens_sent, entry.status) == ("cut", 3, 200)


def test_a_status_brings_headers_of_its_own(played: Played) -> None:
    response = sent(played, MESSAGES, {"kind": "status", "headers": {"x-should-retry": "false"}})
    assert (response.status_code, response.headers["x-should-retry"]) == (500, "false")


@pytest.mark.parametrize("path", PATHS)
def test_a_cut_comes_after_as_many_tokens_as_asked(played: Played, path: str) -> None:
    fault = {"kind": "cut", "after_tokens": 4}
    headers = {**HEADERS, "x-upstream-fault": json.dumps(fault)}
    got: list[bytes] = []
    with (
        httpx.stream("POST", f"{played.url}{path}", json=body(path, stream=True), headers=headers) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        got.extend(response.iter_raw())
    text = b"".join(got).decode().rpartition("\n\n")[0]
    assert "".join(map(words, events(text))) == "Name the seven"


@pytest.mark.parametrize("path", PATHS)
def test_an_error_event_is_in_a_stream_of_status_200(played: Played, path: str) -> None:
    response = sent(played, path, {"kind": "error_event", "status": 502}, stream=True)
    last = events(response.text)[-1]
    assert response.status_code == 200
    kinds = {MESSAGES: "api_error", CHAT: None, ROUTER: 502}
    assert at(last, "error", "type" if path == MESSAGES else "code") == kinds[path]
    assert ("event: error\n" in response.text) is (path == MESSAGES)
    whole = sent(played, path, {"kind": "error_event", "status": 502})
    assert (whole.status_code, "error" in whole.json()) == (200, True)


@pytest.mark.parametrize("path", PATHS)
def test_malformed_json_is_no_json(played: Played, path: str) -> None:
    with pytest.raises(ValueError):
        sent(played, path, "malformed").json()
    with pytest.raises(ValueError):
        events(sent(played, path, "malformed", stream=True).text)


@pytest.mark.parametrize("path", PATHS)
def test_an_unfinished_stream_ends_without_its_last_events(played: Played, path: str) -> None:
    response = sent(played, path, "unfinished", stream=True)
    seen = [json.dumps(event) for event in events(response.text)]
    assert not any(word in event for event in seen for word in ("message_stop", '"stop"'))
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("path", PATHS)
def test_duplicates_repeat_what_opens_and_ends_but_no_text(played: Played, path: str) -> None:
    plain, double = (events(sent(played, path, fault, stream=True).text) for fault in ("whole_arguments", "duplicates"))
    assert "".join(map(words, double)) == "".join(map(words, plain))
    assert len(double) > len(plain)
    assert double[0] == double[1]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_and_a_wrong_content_type(played: Played, path: str) -> None:
    page = sent(played, path, "html")
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert page.text.startswith("<!DOCTYPE html>")
    assert sent(played, path, "wrong_content_type", stream=True).headers["content-type"] == "text/plain"


@pytest.mark.parametrize("path", PATHS)
def test_wrong_usage_is_claimed_and_the_true_one_noted(played: Played, path: str) -> None:
    usage = sent(played, path, "wrong_usage").json()["usage"]
    names = ("input_tokens", "output_tokens") if path == MESSAGES else ("prompt_tokens", "completion_tokens")
    true = played.entries()[-1].usage
    assert true is not None
    assert (usage[names[0]], usage[names[1]], true.input, true.output) == (0, 90, 9, 9)
    assert "usage" not in sent(played, path, "no_usage").json()
    assert not any(at(event, "usage") for event in events(sent(played, path, "no_usage", stream=True).text))


@pytest.mark.parametrize("path", [CHAT, ROUTER])
def test_arguments_as_other_services_send_them(played: Played, path: str) -> None:
    def arguments(fault: str) -> list[object]:
        calls = sent(played, path, fault, **with_tools(path)).json()["choices"][0]["message"]["tool_calls"]
        return [call["function"]["arguments"] for call in calls]

    assert arguments("object_arguments") == [{"key": "abcdefgh"}, {"key": "b"}]
    assert arguments("whole_arguments") == ['{"key": "abcdefgh"}', '{"key": "b"}']
    assert sent(played, path, "empty_calls").json()["choices"][0]["message"]["tool_calls"] == []
    assert sent(played, path, "stop_with_calls", **with_tools(path)).json()["choices"][0]["finish_reason"] == "stop"


def fragments(played: Played, fault: str) -> list[tuple[int, str]]:
    """Index and arguments of each fragment of a call in a stream."""
    found = []
    for event in events(sent(played, CHAT, fault, stream=True, **with_tools(CHAT)).text):
        index = at(event, "choices", 0, "delta", "tool_calls", 0, "index")
        arguments = at(event, "choices", 0, "delta", "tool_calls", 0, "function", "arguments")
        if isinstance(index, int) and isinstance(arguments, str):
            found.append((index, arguments))
    return found


def test_calls_come_whole_or_interleaved(played: Played) -> None:
    assert fragments(played, "whole_arguments") == [(0, '{"key": "abcdefgh"}'), (1, '{"key": "b"}')]
    mixed = fragments(played, "interleaved_calls")
    assert [at for at, _ in mixed][:4] == [0, 1, 0, 1]
    assert "".join(part for at, part in mixed if at == 0) == '{"key": "abcdefgh"}'


def test_the_openai_sdk_sees_an_error_in_a_stream(played: Played) -> None:
    with (
        openai.OpenAI(base_url=f"{played.url}/v1", api_key="k", max_retries=0) as gpt,
        gpt.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hello to you all"}],
            stream=True,
            extra_headers={"x-upstream-fault": "error_event"},
        ) as stream,
        pytest.raises(openai.APIError, match="Overloaded"),
    ):
        list(stream)


def test_the_anthropic_sdk_sees_an_error_in_a_stream(played: Played) -> None:
    with (
        anthropic.Anthropic(base_url=played.url, api_key="k", max_retries=0) as claude,
        claude.messages.create(
            model="m",
            max_tokens=50,
            messages=[{"role": "user", "content": "hello to you all"}],
            stream=True,
            extra_headers={"x-upstream-fault": "error_event"},
        ) as stream,
        pytest.raises(anthropic.APIStatusError, match="overloaded_error"),
    ):
        list(stream)

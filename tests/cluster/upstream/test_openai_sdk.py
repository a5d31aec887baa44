"""OpenAI's own SDK against the upstream, and OpenRouter's additions to its protocol."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam

from tests.cluster.upstream.played import HEADERS, QUESTION, ROUTER, body, playing

SCRIPT = """
models:
  - {id: gpt-test, context_tokens: 2000, price: {input: 1, output: 5, cache_read: 0.1}}
answers:
  - {when: {contains: two things}, calls: [{name: find, input: {key: a}}, {name: find, input: {key: b}}]}
  - {when: {contains: cached}, cache: {read_tokens: 1}}
  - {when: {contains: refuse}, text: I will not., stop: refusal}
"""
FIND: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "find",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with playing(SCRIPT) as played:
        yield played.url


@pytest.fixture
def gpt(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="test-key", max_retries=0, timeout=20) as client:
        yield client


def asked(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_a_completion_repeats_the_question(gpt: openai.OpenAI) -> None:
    completion = gpt.chat.completions.create(model="gpt-test", messages=asked(QUESTION))
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason, completion.model) == (QUESTION, "stop", "gpt-test")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (9, 9)


def test_a_stream_adds_up_to_the_whole_completion(gpt: openai.OpenAI) -> None:
    whole = gpt.chat.completions.create(model="gpt-test", messages=asked("two things"), tools=[FIND])
    with gpt.chat.completions.stream(
        model="gpt-test", messages=asked("two things"), tools=[FIND], stream_options={"include_usage": True}
    ) as stream:
        streamed = stream.get_final_completion()
    made = [done.choices[0].message.tool_calls or [] for done in (whole, streamed)]
    found = [[(c.function.name, c.function.arguments) for c in calls if c.type == "function"] for calls in made]
    assert found == [[("find", '{"key": "a"}'), ("find", '{"key": "b"}')]] * 2
    assert streamed.choices[0].finish_reason == "tool_calls"
    assert streamed.usage == whole.usage


def test_a_stream_tells_usage_only_if_it_is_asked_to(gpt: openai.OpenAI) -> None:
    chunks = list(gpt.chat.completions.create(model="gpt-test", messages=asked(QUESTION), stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == QUESTION


def test_a_tool_loop_ends_with_an_answer(gpt: openai.OpenAI) -> None:
    first = gpt.chat.completions.create(model="gpt-test", messages=asked("find it"), tools=[FIND])
    [call] = first.choices[0].message.tool_calls or []
    turns = [
        *asked("find it"),
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "42"},
    ]
    last = gpt.chat.completions.create(model="gpt-test", messages=turns, tools=[FIND])  # type: ignore[arg-type]  # turns as JSON has them
    assert (last.choices[0].finish_reason, last.choices[0].message.tool_calls) == ("stop", None)


def test_an_answer_in_json_matches_its_schema(gpt: openai.OpenAI) -> None:
    completion = gpt.chat.completions.create(
        model="gpt-test",
        messages=asked(QUESTION),
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "seas", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        },
    )
    assert json.loads(completion.choices[0].message.content or "") == {"n": 1}


def test_several_choices_with_log_probabilities(gpt: openai.OpenAI) -> None:
    completion = gpt.chat.completions.create(
        model="gpt-test", messages=asked(QUESTION), n=2, logprobs=True, top_logprobs=3
    )
    assert [choice.index for choice in completion.choices] == [0, 1]
    words = completion.choices[1].logprobs
    assert words is not None
    assert "".join(entry.token for entry in words.content or []) == QUESTION
    assert {len(entry.top_logprobs) for entry in words.content or []} == {3}


def test_every_way_to_finish(gpt: openai.OpenAI) -> None:
    def finished(text: str, limit: int, stop: str) -> str:
        made = gpt.chat.completions.create(
            model="gpt-test", messages=asked(text), max_completion_tokens=limit, stop=[stop]
        )
        return made.choices[0].finish_reason

    assert finished(QUESTION, 3, "never") == "length"
    assert finished(QUESTION, 100, "seven") == "stop"
    assert finished("refuse", 100, "never") == "content_filter"


def test_errors_have_the_types_of_the_sdk(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        gpt.chat.completions.create(model="gpt-missing", messages=asked(QUESTION))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        gpt.chat.completions.create(model="gpt-test", messages=asked("word" * 3000))
    assert long.value.code == "context_length_exceeded"
    assert [model.id for model in gpt.models.list()] == ["gpt-test"]


def test_openrouter_sends_comments_and_the_settled_cost(url: str) -> None:
    asked_for = body(ROUTER, model="gpt-test", messages=asked("cached"), stream=True, reasoning={"effort": "low"})
    lines = httpx.post(f"{url}{ROUTER}", json=asked_for, headers=HEADERS).text.split("\n\n")
    assert (lines[0], lines[-2]) == (": OPENROUTER PROCESSING", "data: [DONE]")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    thought = "".join(e["choices"][0]["delta"].get("reasoning", "") for e in events if e["choices"])
    usage = events[-1]["usage"]
    assert thought == "The question is: cached"
    assert usage["cost"] == pytest.approx((1 * 1 + 1 * 0.1 + usage["completion_tokens"] * 5) / 1e6)


def test_openrouter_lists_prices_per_token(url: str) -> None:
    [model] = httpx.get(f"{url}/api/v1/models", headers=HEADERS).json()["data"]
    assert model["pricing"] == {"prompt": "0.000001", "completion": "0.000005", "input_cache_read": "0.0000001"}

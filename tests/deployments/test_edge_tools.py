"""Tools by base URL alone, with the vendors' SDKs. The echo engine says what it is told: a call, if it is told one."""

import json

import anthropic
import openai
import pytest
from anthropic.types import Message as ClaudeMessage
from anthropic.types import MessageParam, ToolParam
from openai.types.chat import ChatCompletionFunctionToolParam

from replicas.errors import InvalidRequest
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import serving

SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLAUDE_TOOLS: list[ToolParam] = [{"name": "weather", "description": "Tell it", "input_schema": SCHEMA}]
GPT_TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": "weather", "description": "Tell it", "parameters": SCHEMA}}
]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln }]"}}\n</tool_call>'
TEXT = f"I look.\n{CALL}\n{CALL}"
STOPS = ["Köln", "\n", "tool_call"]
ASKED: list[MessageParam] = [{"role": "user", "content": TEXT}]


def check_claude(message: ClaudeMessage) -> None:
    said, *calls = message.content
    assert said.type == "text"
    assert said.text == "I look."
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls if call.type == "tool_use"] == [
        ("weather", {"city": "Köln }]"})
    ] * 2
    assert len({call.id for call in calls if call.type == "tool_use"}) == 2


def test_the_anthropic_sdk_gets_calls(claude: anthropic.Anthropic) -> None:
    check_claude(claude.messages.create(model="echo", max_tokens=500, messages=ASKED, tools=CLAUDE_TOOLS))


def test_the_anthropic_sdk_accumulates_calls_of_a_stream(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="echo", max_tokens=500, messages=ASKED, tools=CLAUDE_TOOLS) as stream:
        check_claude(stream.get_final_message())


def test_the_openai_sdk_gets_calls(gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": TEXT}], tools=GPT_TOOLS, max_tokens=500
    )
    choice = done.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    functions = [call.function for call in choice.message.tool_calls or [] if call.type == "function"]
    assert [(one.name, json.loads(one.arguments)) for one in functions] == [("weather", {"city": "Köln }]"})] * 2


def test_the_openai_sdk_accumulates_calls_of_a_stream(gpt: openai.OpenAI) -> None:
    with gpt.chat.completions.stream(
        model="echo", messages=[{"role": "user", "content": TEXT}], tools=GPT_TOOLS, max_tokens=500
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    calls = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Köln }]"}] * 2
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")


def test_stop_strings_leave_calls_whole(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    check_claude(
        claude.messages.create(
            model="echo", max_tokens=500, messages=ASKED, tools=CLAUDE_TOOLS, stop_sequences=[*STOPS]
        )
    )
    with gpt.chat.completions.stream(
        model="echo", messages=[{"role": "user", "content": TEXT}], tools=GPT_TOOLS, max_tokens=500, stop=[*STOPS]
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    calls = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Köln }]"}] * 2
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")


def test_stop_strings_end_the_words_of_an_answer_with_tools(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with claude.messages.stream(
        model="echo", max_tokens=500, messages=ASKED, tools=CLAUDE_TOOLS, stop_sequences=["look"]
    ) as stream:
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == ["I "]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "look")
    assert 0 < message.usage.output_tokens < len(TEXT)
    done = gpt.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": TEXT}], tools=GPT_TOOLS, max_tokens=500, stop="look"
    )
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("I ", "stop")


def test_the_older_functions_are_answered_as_such(gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": TEXT}],
        functions=[{"name": "weather", "parameters": SCHEMA}],
        max_tokens=500,
    )
    call = done.choices[0].message.function_call
    assert call is not None
    assert (call.name, done.choices[0].finish_reason) == ("weather", "function_call")


def test_a_result_goes_back_to_the_model(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    first = claude.messages.create(model="echo", max_tokens=500, messages=ASKED, tools=CLAUDE_TOOLS)
    call = next(block for block in first.content if block.type == "tool_use")
    turns: list[MessageParam] = [
        *ASKED,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "4 C"}]},
    ]
    second = claude.messages.create(model="echo", max_tokens=500, messages=turns, tools=CLAUDE_TOOLS)
    assert [block.text for block in second.content if block.type == "text"] == ["[tool result]\n4 C"]
    called = gpt.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": CALL}], tools=GPT_TOOLS, max_tokens=500
    )
    message = called.choices[0].message
    assert message.tool_calls is not None
    other = gpt.chat.completions.create(
        model="echo",
        messages=[
            {"role": "user", "content": CALL},
            message,  # type: ignore[list-item] # the SDK takes its own messages back
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "4 C"},
        ],
        tools=GPT_TOOLS,
    )
    assert other.choices[0].message.content == "[tool result]\n4 C"


def test_tools_that_may_not_be_used_are_not_shown(claude: anthropic.Anthropic) -> None:
    def count(**changes: object) -> int:
        counted = claude.messages.count_tokens(model="echo", messages=ASKED, extra_body=changes)
        return counted.input_tokens

    assert count(tools=CLAUDE_TOOLS) > count()
    assert count(tools=CLAUDE_TOOLS, tool_choice={"type": "none"}) == count()


def test_without_tools_a_call_is_text(gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(model="echo", messages=[{"role": "user", "content": TEXT}], max_tokens=500)
    assert (done.choices[0].message.content, done.choices[0].message.tool_calls) == (TEXT, None)


def test_both_sdks_tell_what_is_wrong_with_a_tool(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]\.name"):
        claude.messages.create(
            model="echo", max_tokens=1, messages=ASKED, tools=[{"name": "no spaces", "input_schema": SCHEMA}]
        )
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "a"}],
            tools=GPT_TOOLS,
            tool_choice={"type": "function", "function": {"name": "other"}},
        )
    assert caught.value.param == "tool_choice.function.name"


def test_a_refusal_of_the_engine_names_the_field_that_was_sent() -> None:
    engine = HandEngine()
    engine.refusal = InvalidRequest("unclosed group", "regex")
    with (
        serving(echo=[engine]) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="local") as client,
        pytest.raises(openai.BadRequestError, match="guided_regex: unclosed group") as caught,
    ):
        client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "a"}], extra_body={"guided_regex": "a("}
        )
    assert caught.value.param == "guided_regex"


def test_a_stop_string_in_words_ends_the_generation() -> None:
    engine = HandEngine()
    with serving(echo=[engine]) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="local") as client:
        with client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "a"}], tools=GPT_TOOLS, stop="look", stream=True
        ) as stream:
            under_way = engine.next()
            under_way.say("I look around")
            said = [chunk.choices[0] for chunk in stream]
        assert under_way.cancelled.wait(10)
    assert under_way.request.sampling.stop == ()
    assert ("".join(one.delta.content or "" for one in said), said[-1].finish_reason) == ("I ", "stop")


@pytest.mark.parametrize("model", ["echo:poet", "ghost:poet", "echo:", ":poet"])
def test_an_adapter_that_is_not_there_is_not_found(gpt: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}])

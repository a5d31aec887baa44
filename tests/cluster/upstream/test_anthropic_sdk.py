"""Anthropic's own SDK against the upstream: what it understands is the protocol."""

import json
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaParams
from anthropic.types.message_create_params import MessageCreateParamsBase as Params

from cluster.upstream.anthropic.reading import KEYS
from tests.cluster.upstream.played import QUESTION, playing

SCRIPT = """
models:
  - {id: claude-test, display_name: Test, context_tokens: 2000, price: {input: 1, output: 5}}
  - {id: claude-other}
answers:
  - when: {contains: two things}
    text: Both.
    calls: [{name: find, input: {key: a}}, {name: find, input: {key: "é\\n"}}]
  - {when: {contains: cached}, cache: {read_tokens: 4, write_tokens: 2}}
  - {when: {contains: refuse}, text: I will not., stop: refusal}
"""
FIND: anthropic.types.ToolParam = {
    "name": "find",
    "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with playing(SCRIPT) as played:
        yield played.url


@pytest.fixture
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="test-key", max_retries=0, timeout=20) as client:
        yield client


def asked(text: str) -> list[anthropic.types.MessageParam]:
    return [{"role": "user", "content": text}]


def test_a_message_repeats_the_question(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="claude-test", max_tokens=100, messages=asked(QUESTION))
    [block] = message.content
    assert isinstance(block, TextBlock)
    assert (block.text, message.stop_reason, message.model) == (QUESTION, "end_turn", "claude-test")
    assert message.usage.output_tokens == message.usage.input_tokens == 9


def test_a_stream_adds_up_to_the_whole_message(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(model="claude-test", max_tokens=100, messages=asked("two things"), tools=[FIND])
    with claude.messages.stream(
        model="claude-test", max_tokens=100, messages=asked("two things"), tools=[FIND]
    ) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use"]
    inputs = [[b.input for b in m.content if isinstance(b, ToolUseBlock)] for m in (whole, streamed)]
    assert inputs == [[{"key": "a"}, {"key": "é\n"}]] * 2
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("tool_use", whole.usage.output_tokens)


def test_a_tool_loop_ends_with_an_answer(claude: anthropic.Anthropic) -> None:
    first = claude.messages.create(model="claude-test", max_tokens=100, messages=asked("find it"), tools=[FIND])
    [call] = first.content
    assert isinstance(call, ToolUseBlock)
    assert call.input == {"key": "find it"}
    result: anthropic.types.ToolResultBlockParam = {"type": "tool_result", "tool_use_id": call.id, "content": "42"}
    turns: list[anthropic.types.MessageParam] = [
        *asked("find it"),
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    last = claude.messages.create(model="claude-test", max_tokens=100, messages=turns, tools=[FIND])
    assert (last.stop_reason, [block.type for block in last.content]) == ("end_turn", ["text"])


@pytest.mark.parametrize("choice", ["any", "find"])
def test_a_forced_tool_is_called(claude: anthropic.Anthropic, choice: str) -> None:
    forced: anthropic.types.ToolChoiceParam = {"type": "any"} if choice == "any" else {"type": "tool", "name": choice}
    message = claude.messages.create(
        model="claude-test", max_tokens=100, messages=asked("anything"), tools=[FIND], tool_choice=forced
    )
    assert [(block.type, message.stop_reason) for block in message.content] == [("tool_use", "tool_use")]


def test_thinking_comes_back_as_it_was_signed(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-test",
        max_tokens=1500,
        messages=asked(QUESTION),
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        message = stream.get_final_message()
    thought = message.content[0]
    assert isinstance(thought, ThinkingBlock)
    turns: list[anthropic.types.MessageParam] = [
        *asked(QUESTION),
        {"role": "assistant", "content": message.content},
        *asked("and then?"),
    ]
    assert claude.messages.create(model="claude-test", max_tokens=100, messages=turns).stop_reason == "end_turn"
    thought.thinking += "!"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
        claude.messages.create(model="claude-test", max_tokens=100, messages=turns)


def test_an_answer_in_json_matches_its_schema(claude: anthropic.Anthropic) -> None:
    tags: dict[str, object] = {"type": "array", "items": {"enum": ["x"]}}
    schema: dict[str, object] = {"type": "object", "properties": {"n": {"type": "integer"}, "tags": tags}}
    message = claude.messages.create(
        model="claude-test",
        max_tokens=100,
        messages=asked(QUESTION),
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    [block] = message.content
    assert isinstance(block, TextBlock)
    assert json.loads(block.text) == {"n": 1, "tags": ["x"]}


def test_every_way_to_stop(claude: anthropic.Anthropic) -> None:
    def stopped(text: str, limit: int, stops: list[str]) -> tuple[str | None, str | None]:
        message = claude.messages.create(
            model="claude-test", max_tokens=limit, messages=asked(text), stop_sequences=stops
        )
        return message.stop_reason, message.stop_sequence

    assert stopped(QUESTION, 3, []) == ("max_tokens", None)
    assert stopped(QUESTION, 100, ["of the", "seven"]) == ("stop_sequence", "seven")
    assert stopped("refuse", 100, []) == ("refusal", None)


def test_tokens_are_counted_as_they_are_billed(claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="claude-test", messages=asked("cached"), tools=[FIND]).input_tokens
    usage = claude.messages.create(model="claude-test", max_tokens=9, messages=asked("cached"), tools=[FIND]).usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 2)
    assert usage.input_tokens == counted - 6


def test_the_models_of_the_script_are_listed(claude: anthropic.Anthropic) -> None:
    assert [model.id for model in claude.models.list()] == ["claude-test", "claude-other"]
    assert claude.models.retrieve("claude-test").display_name == "Test"
    with pytest.raises(anthropic.NotFoundError, match="claude-missing"):
        claude.models.retrieve("claude-missing")


def test_images_and_documents_count_as_tokens(claude: anthropic.Anthropic) -> None:
    image: anthropic.types.ImageBlockParam = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
    }
    turns: list[anthropic.types.MessageParam] = [{"role": "user", "content": [image]}]
    assert claude.messages.count_tokens(model="claude-test", messages=turns).input_tokens == 1500


def test_a_prompt_past_the_context_is_told_as_clients_parse_it(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 3000 tokens > 2000 maximum"):
        claude.messages.create(model="claude-test", max_tokens=10, messages=asked("word" * 3000))


def test_the_upstream_knows_every_key_of_the_sdk() -> None:
    assert set(Params.__annotations__) | set(BetaParams.__annotations__) - {"betas"} <= KEYS

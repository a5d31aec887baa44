"""What a chat completions body becomes."""

import json

import pytest

from replicas.engine import Grammar, Message, Sampling, ToolCall
from replicas.errors import InvalidRequest
from router.call import Call
from router.openai import OpenAIDialect
from tests.router.exchanges import anthropic, body, openai


def parse(headers: dict[str, str] | None = None, /, **changes: object) -> Call:
    return openai().parse(body(**changes), headers or {}).call


def turns(*messages: dict[str, object]) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in parse(messages=list(messages)).messages]


def test_a_plain_request_becomes_a_call() -> None:
    assert parse() == Call(
        id="chatcmpl-0001",
        model="claude-local-smol",
        messages=(Message("user", "Say hello"),),
        sampling=Sampling(max_tokens=16, temperature=1.0),
    )


def test_every_sampling_field_arrives() -> None:
    sampling = parse(
        stop="END",
        temperature=0,
        top_p=1,
        top_k=40,
        seed=2**63 - 1,
        repetition_penalty=2,
        min_tokens=16,
        ignore_eos=True,
    ).sampling
    assert sampling == Sampling(16, 0.0, 1.0, 40, 2.0, 16, True, ("END",), 2**63 - 1)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_tokens": None}, 1024),
        ({"max_tokens": None, "min_tokens": 2000}, 2000),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": None, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
    ],
)
def test_the_newer_name_of_the_token_limit_wins(limits: dict[str, object], expected: int) -> None:
    assert parse(**limits).sampling.max_tokens == expected


@pytest.mark.parametrize(("stop", "expected"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ())])
def test_stop_is_a_string_or_a_list(stop: object, expected: tuple[str, ...]) -> None:
    assert parse(stop=stop).sampling.stop == expected


def test_developer_is_system_by_its_newer_name() -> None:
    assert turns({"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}) == [
        ("system", "Be kind."),
        ("user", "Hi"),
    ]


def test_parts_become_lines_and_what_is_no_text_a_note() -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    note = "[{}: not readable by this text model]"
    assert turns({"role": "user", "content": parts}) == [
        ("user", f"Look:\n{note.format('image')}\n{note.format('audio')}")
    ]


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', '{"city":"Oslo"}', {"city": "Oslo"}])
def test_a_tool_round_keeps_its_structure(arguments: object) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    assert parse(
        messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "4 C"},
        ]
    ).messages == (
        Message("user", "Weather?"),
        Message("assistant", "", (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        Message("tool", "4 C", tool_call_id="call_1", tool_name="weather"),
    )


def test_a_round_of_the_older_functions_is_the_same() -> None:
    said, got = parse(
        messages=[
            {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": "not JSON"}},
            {"role": "function", "name": "weather", "content": "4 C"},
        ]
    ).messages
    assert said.tool_calls == (ToolCall("", "weather", '{"input": "not JSON"}'),)
    assert got == Message("tool", "4 C", tool_name="weather")


@pytest.mark.parametrize("calls", [[], None, "x", [None], [{"function": 7}], [{"custom": {}}]])
def test_odd_tool_calls_beside_content_do_no_harm(calls: object) -> None:
    said = turns({"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": calls})
    assert said[1][1].startswith("b")


def test_the_same_conversation_is_the_same_prompt_in_both_dialects() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert parse(messages=messages).messages == anthropic().parse(body(messages=messages), {}).call.messages


@pytest.mark.parametrize("n", [0, -1, 129, 10**40])
def test_a_number_of_choices_that_cannot_be_is_refused(n: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(n=n)
    assert caught.value.param == "n"


def test_several_choices_are_a_call_each_with_a_seed_of_its_own() -> None:
    exchange = openai().parse(body(n=3, seed=7, messages=[{"role": "user", "content": "Hi"}]), {})
    calls = (exchange.call, *exchange.more)
    assert [call.id for call in calls] == ["chatcmpl-0001", "chatcmpl-0001-1", "chatcmpl-0001-2"]
    seeds = [call.sampling.seed for call in calls]
    assert seeds[0] == 7
    assert len({*seeds}) == 3
    sent = [json.loads(call.source.body) for call in calls if call.source is not None]
    assert [one["seed"] for one in sent] == seeds
    assert all("n" not in one for one in sent)
    again = openai().parse(body(n=3, seed=7), {})
    assert [call.sampling.seed for call in (again.call, *again.more)] == seeds


def test_choices_without_a_seed_have_none() -> None:
    exchange = openai().parse(body(n=2), {})
    assert [call.sampling.seed for call in (exchange.call, *exchange.more)] == [None, None]
    assert openai().parse(body(n=1), {}).more == ()


def test_the_fields_of_openai_and_vllm_that_change_the_logits_arrive() -> None:
    sampling = parse(
        presence_penalty=0.5,
        frequency_penalty=-2,
        logit_bias={"5": 100, "17": -1.5},
        min_p=0.1,
        stop_token_ids=[3, 4],
        include_stop_str_in_output=True,
    ).sampling
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.min_p) == (0.5, -2.0, 0.1)
    assert sampling.logit_bias == ((5, 100.0), (17, -1.5))
    assert (sampling.stop_token_ids, sampling.keeps_stop) == ((3, 4), True)


@pytest.mark.parametrize(
    "bias", [[], {"a": 1}, {"-1": 1}, {"1": 101}, {"1": True}, {"1": None}, {"٣": 1}, {str(i): 1 for i in range(1025)}]
)
def test_a_bias_that_can_mean_nothing_is_refused(bias: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(logit_bias=bias)
    assert caught.value.param == "logit_bias"


def test_what_asks_for_nothing_changes_nothing() -> None:
    extra: dict[str, object] = {
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logprobs": False,
        "user": "someone",
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "min_p": 0,
        "priority": 0,
        "echo": False,
        "skip_special_tokens": True,
        "length_penalty": 1,
        "modalities": ["text"],
        "store": False,
        "novelty": {"a": [None]},
    }
    assert parse(**extra) == parse()
    assert parse(**extra).unsupported is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("echo", True),
        ("priority", 3),
        ("use_beam_search", True),
        ("length_penalty", 2),
        ("skip_special_tokens", False),
        ("truncate_prompt_tokens", 5),
        ("prompt_logprobs", 0),
        ("allowed_token_ids", [1]),
        ("bad_words", ["x"]),
        ("chat_template", "{{ messages }}"),
        ("chat_template_kwargs", {"enable_thinking": True}),
        ("documents", [{"text": "x"}]),
        ("modalities", ["text", "audio"]),
        ("cache_salt", "x"),
        ("store", True),
        ("add_generation_prompt", False),
        ("continue_final_message", True),
    ],
)
def test_what_no_model_here_can_do_is_noted_for_local_models_and_left_to_clouds(name: str, value: object) -> None:
    refusal = parse(**{name: value}).unsupported
    assert refusal is not None
    assert (refusal.param, refusal.status) == (name, 400)
    assert refusal.message.startswith(f"{name}: ")


BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, None),
        ({"continue_final_message": True, "add_generation_prompt": False}, None),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"continue_final_message": False}, "messages"),
        ({"add_generation_prompt": True}, "messages"),
    ],
)
def test_an_answer_that_is_begun_is_continued_and_nothing_else(fields: dict[str, object], param: str | None) -> None:
    refusal = parse(messages=BEGUN, **fields).unsupported
    assert (refusal.param if refusal else None) == param


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ],
)
def test_a_part_that_a_text_model_cannot_read_is_noted_with_its_place(part: dict[str, object]) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]
    refusal = parse(messages=messages).unsupported
    assert refusal is not None
    assert refusal.param == "messages[0].content[1]"


def test_the_form_of_the_answer_and_its_scores_arrive() -> None:
    call = parse(response_format={"type": "json_object"}, logprobs=True, top_logprobs=3)
    assert (call.grammar, call.top_logprobs) == (Grammar("json_schema", '{"type": "object"}'), 3)
    assert parse(logprobs=True).top_logprobs == 0


def test_the_session_comes_from_the_header_then_the_body() -> None:
    both: dict[str, object] = {"session_id": "s", "prompt_cache_key": "k"}
    assert parse({"x-session-id": "h"}, **both).session_id == "h"
    assert parse(**both).session_id == "s"
    assert parse(prompt_cache_key="k").session_id == "k"
    assert parse(session_id=7).session_id is None


def test_every_request_gets_an_id_of_its_own() -> None:
    dialect = OpenAIDialect("smol")
    ids = {dialect.parse(body(), {}).call.id for _ in range(8)}
    assert len(ids) == 8
    assert all(one.startswith("chatcmpl-") for one in ids)

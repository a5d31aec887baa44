"""What the tools of a body become, and how wrong ones are refused."""

import json

import pytest

from replicas.errors import InvalidRequest
from replicas.tools.tool import Tool, ToolChoice
from router.anthropic import parse_count
from router.call import Call, Dialect
from tests.router.exchanges import anthropic, body, openai

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "Tell it", json.dumps(SCHEMA))
BARE = Tool("bare")
FUNCTIONS: list[dict[str, object]] = [
    {"name": "weather", "description": "Tell it", "parameters": SCHEMA},
    {"name": "bare"},
]
OPENAI = [{"type": "function", "function": function} for function in FUNCTIONS]
ANTHROPIC: list[dict[str, object]] = [
    {"name": "weather", "description": "Tell it", "input_schema": SCHEMA},
    {"name": "bare", "type": "custom"},
]
NAMED = {"type": "function", "function": {"name": "bare"}}


def openai_call(**changes: object) -> Call:
    return openai().parse(body(**changes), {}).call


def anthropic_call(**changes: object) -> Call:
    return anthropic().parse(body(**changes), {}).call


def test_both_dialects_offer_the_same_tools() -> None:
    assert openai_call(tools=OPENAI).tools == anthropic_call(tools=ANTHROPIC).tools == (WEATHER, BARE)
    assert openai_call(functions=FUNCTIONS).tools == (WEATHER, BARE)
    assert parse_count(body(tools=ANTHROPIC), {}).tools == (WEATHER, BARE)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (NAMED, ToolChoice("named", "bare")),
    ],
)
def test_the_choice_of_the_openai_dialect(choice: object, expected: ToolChoice) -> None:
    assert openai_call(tools=OPENAI, tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", is_parallel=False)),
        ({"type": "tool", "name": "bare"}, ToolChoice("named", "bare")),
    ],
)
def test_the_choice_of_the_anthropic_dialect(choice: object, expected: ToolChoice) -> None:
    assert anthropic_call(tools=ANTHROPIC, tool_choice=choice).tool_choice == expected


def test_calls_can_be_asked_for_one_at_a_time() -> None:
    assert not openai_call(tools=OPENAI, parallel_tool_calls=False).tool_choice.is_parallel
    assert not openai_call(functions=FUNCTIONS).tool_choice.is_parallel
    assert openai_call(functions=FUNCTIONS, function_call={"name": "bare"}).tool_choice.name == "bare"


def test_allowed_tools_hide_the_others() -> None:
    allowed = {"mode": "required", "tools": [NAMED]}
    call = openai_call(tools=OPENAI, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert (call.tools, call.tool_choice) == ((BARE,), ToolChoice("required"))


def test_tools_that_a_server_runs_are_left_out() -> None:
    served = {"type": "web_search_20250305", "name": "web_search"}
    assert anthropic_call(tools=[*ANTHROPIC, served]).tools == (WEATHER, BARE)
    for choice in ({"type": "any"}, {"type": "tool", "name": "web_search"}):
        assert anthropic_call(tools=[served], tool_choice=choice) == anthropic_call()


def _function(**changes: object) -> list[object]:
    return [OPENAI[0], {"type": "function", "function": {**FUNCTIONS[1], **changes}}]


def _custom(**changes: object) -> list[object]:
    return [ANTHROPIC[0], {**ANTHROPIC[1], **changes}]


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (openai(), {"tools": {}}, "tools"),
        (openai(), {"tools": [7]}, "tools[0]"),
        (openai(), {"tools": OPENAI * 300}, "tools"),
        (openai(), {"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        (openai(), {"tools": [{"type": "function"}]}, "tools[0].function"),
        (openai(), {"tools": _function(name="no spaces")}, "tools[1].function.name"),
        (openai(), {"tools": _function(name="n" * 65)}, "tools[1].function.name"),
        (openai(), {"tools": _function(name=None)}, "tools[1].function.name"),
        (openai(), {"tools": _function(name="weather")}, "tools[1].function.name"),
        (openai(), {"tools": _function(description=7)}, "tools[1].function.description"),
        (openai(), {"tools": _function(parameters=[])}, "tools[1].function.parameters"),
        (openai(), {"tools": _function(parameters={"type": "string"})}, "tools[1].function.parameters.type"),
        (openai(), {"tools": OPENAI, "tool_choice": "sometimes"}, "tool_choice"),
        (openai(), {"tool_choice": "required"}, "tool_choice"),
        (openai(), {"tools": OPENAI, "tool_choice": 5}, "tool_choice"),
        (openai(), {"tools": OPENAI, "tool_choice": {"function": {"name": "x"}}}, "tool_choice.function.name"),
        (openai(), {"functions": FUNCTIONS, "function_call": {"name": "x"}}, "function_call.name"),
        (openai(), {"tools": OPENAI, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        (openai(), {"top_logprobs": 3}, "top_logprobs"),
        (anthropic(), {"tools": _custom(name="ünder")}, "tools[1].name"),
        (anthropic(), {"tools": _custom(name="weather")}, "tools[1].name"),
        (anthropic(), {"tools": _custom(input_schema="x")}, "tools[1].input_schema"),
        (anthropic(), {"tools": ANTHROPIC, "tool_choice": "any"}, "tool_choice"),
        (anthropic(), {"tool_choice": {"type": "any"}}, "tool_choice.type"),
        (anthropic(), {"tools": [], "tool_choice": {"type": "any"}}, "tool_choice.type"),
        (anthropic(), {"tools": ANTHROPIC, "tool_choice": {"type": "all"}}, "tool_choice.type"),
        (anthropic(), {"tools": ANTHROPIC, "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ],
)
def test_a_wrong_tool_is_refused_with_the_path_to_it(dialect: Dialect, fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        dialect.parse(body(**fields), {})
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize("choice", [5, "sometimes", []])
def test_a_choice_that_is_none_is_told_what_there_is(choice: object) -> None:
    with pytest.raises(InvalidRequest, match="'auto', 'none', 'required' or an object that names a function"):
        openai_call(tools=OPENAI, tool_choice=choice)

"""What a call becomes for an engine: adapter, layout, grammar, seed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from deployments.plan import EnginePlan, PoolPlan
from deployments.prompting import Prompter
from replicas.chat import ChatTokenizer
from replicas.engine import CallPiece, Generation, Grammar, Message, Sampling
from replicas.errors import ContextOverflow, InvalidRequest, Unsupported
from replicas.tools.tool import Tool, ToolChoice
from router.call import Call
from tests.replicas.engines import tiny
from tests.replicas.grammars import refused

Kind: TypeAlias = Literal["slot", "paged", "echo"]
TOOL = Tool("weather", "Tell it")
CALL = Call("c", "tiny", (Message("user", "Weather?"),), Sampling(max_tokens=9, temperature=1.0), tools=(TOOL,))
BARE = replace(CALL, tools=())
FORM = Grammar("json_schema", '{"type": "array"}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny().directory / name, tmp_path)
    for name, about in {"tools": {"purpose": "tools", "format": "chatml"}, "poet": {}}.items():
        adapter = tmp_path / "adapters" / name
        adapter.mkdir(parents=True)
        (adapter / "adapter.json").write_text(json.dumps(about))
        (adapter / "adapter_config.json").write_text("{}")
    return tmp_path


def prompter(folder: Path, tool_adapter: str | None = "tools", kind: Kind = "slot") -> Prompter:
    plan = PoolPlan("tiny", folder, EnginePlan(kind=kind), tool_adapter=tool_adapter)
    return Prompter(plan, ChatTokenizer(folder))


def made(prompter: Prompter, call: Call) -> Generation:
    return prompter.generation(call, deadline_s=60.0)


def test_requests_with_tools_go_to_the_adapter_for_them(folder: Path) -> None:
    assert made(prompter(folder), CALL).adapter == "tools"
    assert made(prompter(folder), BARE).adapter is None
    assert made(prompter(folder), replace(CALL, tool_choice=ToolChoice("none"))).adapter is None
    assert made(prompter(folder), replace(CALL, adapter="poet")).adapter == "poet"
    assert made(prompter(folder, None), CALL).adapter is None


def test_a_bare_prompt_has_no_layout_and_its_control_tokens_count(folder: Path) -> None:
    text = "<|im_start|>user\nHi<|im_end|>"
    by_text = made(prompter(folder), replace(BARE, raw=text))
    assert by_text.prompt == ChatTokenizer(folder).encode_prompt(text)
    assert len(by_text.prompt) < len(ChatTokenizer(folder).encode(text))
    assert made(prompter(folder), replace(BARE, raw=(5, 6))).prompt == (5, 6)


def test_an_answer_goes_on_within_a_bare_prompt_and_a_turn_that_is_begun(folder: Path) -> None:
    begun = (*BARE.messages, Message("assistant", "It is"))
    calls = [BARE, replace(BARE, messages=begun), replace(BARE, raw="It is"), replace(BARE, raw=(5,))]
    assert [made(prompter(folder), call).is_continued for call in calls] == [False, True, True, True]


def test_what_no_local_model_can_do_is_refused_here(folder: Path) -> None:
    with pytest.raises(Unsupported, match="suffix: no"):
        made(prompter(folder), replace(BARE, unsupported=Unsupported("suffix: no", "suffix")))


def test_the_layout_is_the_adapters_own(folder: Path) -> None:
    said = (*CALL.messages, Message("tool", "4 C"))
    by_adapter = made(prompter(folder), replace(CALL, messages=said)).prompt
    by_template = made(prompter(folder, None), replace(CALL, messages=said)).prompt
    chat = ChatTokenizer(folder)
    assert set(chat.encode("[tool result]")) <= set(by_template)
    assert len(by_adapter) < len(by_template)


@pytest.mark.parametrize("kind", ["slot", "paged"])
@pytest.mark.parametrize(("mode", "begins"), [("required", 'start: "<tool_call>" calls'), ("auto", "start: words | ")])
def test_an_engine_that_follows_grammars_is_held_to_the_tools(folder: Path, mode: str, begins: str, kind: Kind) -> None:
    choice = ToolChoice("required") if mode == "required" else ToolChoice()
    grammar = made(prompter(folder, kind=kind), replace(CALL, tool_choice=choice)).grammar
    assert grammar is not None
    assert grammar.text.startswith(begins)


def test_the_form_of_an_answer_holds_beside_tools_and_without(folder: Path) -> None:
    assert made(prompter(folder), replace(BARE, grammar=FORM)).grammar == FORM
    beside = made(prompter(folder), replace(CALL, grammar=FORM)).grammar
    assert beside is not None
    assert beside.text.startswith('start: %json {"type": "array"')


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (replace(BARE, grammar=Grammar("json_schema", '{"items": {"type": "nul"}}', "guided_json")), "#/items/type"),
        (replace(CALL, grammar=Grammar("json_schema", '{"items": {"type": "nul"}}', "guided_json")), "#/items/type"),
        (replace(BARE, grammar=Grammar("regex", "a(", "guided_json")), ""),
        (replace(BARE, grammar=Grammar("lark", "start: x", "guided_json")), ""),
        (
            replace(CALL, tools=(Tool("t", "", '{"properties": {"a": {"type": "nul"}}}', "guided_json"),)),
            "#/properties/a/type",
        ),
    ],
)
def test_a_refusal_names_the_field_that_was_sent(folder: Path, call: Call, param: str) -> None:
    own = prompter(folder)
    generation = made(own, call)
    assert generation.grammar is not None
    refusal = own.blamed(call, generation, refused(generation.grammar))
    assert refusal.param == f"guided_json{param}"
    assert refusal.message.startswith(f"{refusal.param}: ")


def test_a_form_that_costs_too_much_beside_tools_is_refused_by_its_field(folder: Path) -> None:
    form = Grammar("json_schema", '{"multipleOf": 99991}', "guided_json")
    with pytest.raises(InvalidRequest) as caught:
        made(prompter(folder), replace(CALL, grammar=form))
    assert caught.value.param == "guided_json#/multipleOf"


def test_tools_too_large_for_a_grammar_are_offered_without_one(folder: Path) -> None:
    schema = json.dumps({"properties": {f"p{i}": {"enum": ["x" * 100]} for i in range(3000)}})
    large = replace(CALL, tools=(Tool("large", "", schema),))
    roomy = Prompter(replace(prompter(folder).pool, context_tokens=10**7), ChatTokenizer(folder))
    assert made(roomy, large).grammar is None
    assert made(roomy, replace(large, tool_choice=ToolChoice("required"))).grammar is not None


def test_an_engine_that_follows_none_is_asked_for_none_and_not_trusted(folder: Path) -> None:
    echo = prompter(folder, kind="echo")
    generation = made(echo, CALL)
    assert generation.grammar is None
    parser = echo.parser(CALL, generation)
    assert parser is not None
    assert parser.push('<tool_call>\n{"name": "weather", "arguments": {') == []


def test_a_followed_grammar_is_trusted(folder: Path) -> None:
    own = prompter(folder)
    parser = own.parser(CALL, made(own, CALL))
    assert parser is not None
    assert parser.push('<tool_call>\n{"name": "weather", "arguments": {')[0] == CallPiece(0, "weather")
    assert own.parser(BARE, made(own, BARE)) is None


def test_a_seed_is_drawn_for_a_call_that_has_none(folder: Path) -> None:
    own = prompter(folder)
    seeds = {made(own, CALL).sampling.seed for _ in range(4)}
    assert len(seeds) == 4
    assert None not in seeds
    assert made(own, replace(CALL, sampling=replace(CALL.sampling, seed=7))).sampling.seed == 7


def test_a_prompt_that_leaves_no_room_is_refused_with_both_counts(folder: Path) -> None:
    length = len(made(prompter(folder), CALL).prompt)
    tight = Prompter(replace(prompter(folder).pool, context_tokens=length), ChatTokenizer(folder))
    with pytest.raises(ContextOverflow) as caught:
        made(tight, CALL)
    assert (caught.value.tokens, caught.value.limit) == (length, length - 1)

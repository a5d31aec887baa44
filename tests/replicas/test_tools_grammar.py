"""What the grammar of an answer with tools lets through: whole calls of offered tools that hold to their schemas."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer

from replicas.chat import ChatTokenizer
from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from replicas.grammar import GrammarCompiler
from replicas.tools.lark import CALLS, blamed
from replicas.tools.layout import ToolLayout, adapter_layout, layout_of
from replicas.tools.tool import Tool, ToolChoice
from tests.replicas.engines import tiny

WEATHER = Tool(
    "weather",
    "",
    '{"properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},'
    ' "required": ["city"]}',
)
TOOLS = (WEATHER, Tool("now"))
AUTO, REQUIRED = ToolChoice(), ToolChoice("required")
TEMPLATES = {
    "hermes": "{{ tools }}<tool_call>",
    "phi": "{{ message['tools'] }}<|tool|>",
    "llama": '{{ tools }}{"parameters": ',
    "none": "",
}
Accepts = Callable[[str], bool]
families = pytest.mark.parametrize("family", TEMPLATES)


def acceptor(folder: Path, grammar: Grammar) -> Accepts:
    """Whether a whole answer is one that the grammar of an engine would let through, token by token."""
    raw = (folder / "tokenizer.json").read_text()
    fast, vocabulary = Tokenizer.from_str(raw), LLTokenizer(raw)
    text = LLMatcher.grammar_from_lark(grammar.text)

    def accepts(answer: str) -> bool:
        matcher = LLMatcher(vocabulary, text, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        ids = fast.encode(answer, add_special_tokens=False).ids
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    return accepts


@pytest.fixture(scope="module", params=[False, True], ids=["tags are text", "tags are tokens"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny().directory / name, path)
    if request.param:
        fast = Tokenizer.from_file(str(path / "tokenizer.json"))
        tags = ["<tool_call>", "</tool_call>", "<|tool_call|>", "<|/tool_call|>", "<think>"]
        fast.add_tokens([AddedToken(tag, special=tag.startswith("<|"), normalized=False) for tag in tags])
        fast.save(str(path / "tokenizer.json"))
    return path


def layout(folder: Path, family: str) -> ToolLayout:
    return layout_of(TEMPLATES[family], ChatTokenizer(folder).tags)


def block(layout: ToolLayout, *calls: tuple[str, object]) -> str:
    return layout.syntax.block([f"{layout.syntax.head(name)}{json.dumps(arguments)}}}" for name, arguments in calls])


@families
def test_a_call_must_hold_to_its_tools_schema(folder: Path, family: str) -> None:
    used = layout(folder, family)
    accepts = acceptor(folder, used.grammar(TOOLS, REQUIRED))
    assert accepts(block(used, ("weather", {"city": "Oslo }]", "days": [1, 2]})))
    assert accepts(block(used, ("now", {})))
    for wrong in ({}, {"city": 7}, {"city": "a", "days": ["x"]}, {"city": "a", "more": 1}):
        assert not accepts(block(used, ("weather", wrong)))
    assert not accepts(block(used, ("nobody", {})))
    assert not accepts("It is sunny.")


@families
def test_of_its_own_choice_an_answer_is_words_or_whole_calls(folder: Path, family: str) -> None:
    used = layout(folder, family)
    accepts, call = acceptor(folder, used.grammar(TOOLS, AUTO)), block(used, ("weather", {"city": "Oslo"}))
    assert accepts(call)
    assert accepts("It is sunny. a < b")
    assert accepts("")
    assert not accepts(call[:-1])
    assert not accepts(call.replace("weather", "nobody"))
    assert not accepts(f"{call} and words")


@pytest.mark.parametrize("family", ["hermes", "phi"])
def test_words_may_come_before_a_call(folder: Path, family: str) -> None:
    used = layout(folder, family)
    accepts, call = acceptor(folder, used.grammar(TOOLS, AUTO)), block(used, ("now", {}))
    assert accepts(f"I look.\n{call}")
    assert not accepts(f"I look.\n{call[:-1]}")


@pytest.mark.parametrize("family", ["hermes", "phi"])
@pytest.mark.parametrize("mode", [AUTO, REQUIRED])
def test_several_calls_are_possible_where_they_are_wanted(folder: Path, family: str, mode: ToolChoice) -> None:
    used = layout(folder, family)
    both = block(used, ("now", {}), ("weather", {"city": "Oslo"}))
    assert acceptor(folder, used.grammar(TOOLS, mode))(both)
    assert not acceptor(folder, used.grammar(TOOLS, ToolChoice(mode.mode, is_parallel=False)))(both)


@pytest.mark.parametrize("family", ["hermes", "phi"])
def test_an_answer_does_not_call_for_ever(folder: Path, family: str) -> None:
    used = layout(folder, family)
    accepts = acceptor(folder, used.grammar(TOOLS, REQUIRED))
    assert accepts(block(used, *[("now", {})] * CALLS))
    assert not accepts(block(used, *[("now", {})] * (CALLS + 1)))


@families
def test_a_named_tool_is_the_only_one(folder: Path, family: str) -> None:
    used = layout(folder, family)
    accepts = acceptor(folder, used.grammar(TOOLS, ToolChoice("named", "now")))
    assert accepts(block(used, ("now", {})))
    assert not accepts(block(used, ("weather", {"city": "a"})))


@families
def test_an_answer_may_have_to_be_a_call_or_json_of_a_form(folder: Path, family: str) -> None:
    used, form = layout(folder, family), Grammar("json_schema", '{"type": "array", "items": {"type": "integer"}}')
    accepts = acceptor(folder, used.grammar(TOOLS, AUTO, form))
    assert accepts("[1, 2]")
    assert accepts(block(used, ("now", {})))
    assert not accepts("words")


def test_another_form_beside_tools_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="only a JSON schema"):
        layout(folder, "none").grammar(TOOLS, AUTO, Grammar("regex", "a+"))


def test_thoughts_of_a_model_that_thinks_in_tags_stay_possible(folder: Path) -> None:
    used = layout(folder, "hermes")
    assert acceptor(folder, used.grammar(TOOLS, AUTO))(f"<think>\nhm{block(used, ('now', {}))}")


def test_keywords_that_cannot_be_followed_are_let_go(folder: Path) -> None:
    odd = Tool("odd", "", '{"properties": {"a": {"type": "string", "format": "x-odd"}}, "not": {"required": ["b"]}}')
    used = layout(folder, "none")
    assert acceptor(folder, used.grammar([odd], REQUIRED))(block(used, ("odd", {"a": "1"})))


@pytest.mark.parametrize(
    ("keyword", "args"),
    [
        ({"uniqueItems": True}, [1, 1]),
        ({"not": {"type": "array"}}, [1, 1]),
        ({"if": {"type": "array"}, "then": {"minItems": 9}}, [1]),
    ],
)
def test_the_keywords_that_the_readme_names_are_let_go(keyword: dict[str, object], args: list[int]) -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "integer"}, **keyword}}}
    used = layout_of("", {})
    grammar = used.grammar([Tool("odd", "", json.dumps(schema))], REQUIRED)
    assert acceptor(tiny().directory, grammar)(block(used, ("odd", {"a": args})))


def test_arguments_are_closed_and_spaced_as_answers_of_a_schema_are() -> None:
    schema = '{"properties": {"a": {"type": "number", "exclusiveMinimum": 1}}}'
    accepts = acceptor(tiny().directory, layout_of("", {}).grammar([Tool("f", "", schema)], REQUIRED))
    calls = ['{"a": 2}', '{"a":2}', '{"a": 1}', '{"a": 2, "b": 2}']
    head = '<tool_call>\n{"name": "f", "arguments": '
    assert [accepts(f"{head}{call}}}\n</tool_call>") for call in calls] == [True, False, False, False]


def test_a_schema_that_means_nothing_is_refused_by_its_tools_name() -> None:
    wrong = Tool("wrong", "", '{"properties": {"a": {"type": "integer", "multipleOf": 99991}}}', "tools[0].x")
    with pytest.raises(InvalidRequest, match="schema of 'wrong'") as caught:
        layout_of("", {}).grammar([wrong], REQUIRED)
    assert caught.value.param == "tools[0].x#/properties/a/multipleOf"


@pytest.mark.parametrize("choice", [AUTO, REQUIRED])
def test_the_tool_is_named_whose_schema_the_compiler_refuses(choice: ToolChoice) -> None:
    wrong = Tool("wrong", "", '{"properties": {"a b": {"type": "strnig"}}, "not": {}}', "tools[2].input_schema")
    grammar = layout_of("", {}).grammar([*TOOLS, wrong], choice)
    compiler = GrammarCompiler(tiny().directory, 512, [])
    with pytest.raises(InvalidRequest) as caught:
        compiler.compile(grammar)
    compiler.close()
    refusal = blamed(grammar, caught.value, [*TOOLS, wrong])
    assert refusal.param == "tools[2].input_schema#/properties/a b/type"
    assert refusal.message == f"{refusal.param}: the schema of 'wrong' cannot be followed: Invalid type: strnig"


@pytest.mark.parametrize("words", ["no room", "at line 1, column 2: x", "at line 99, column 2: x"])
def test_any_other_refusal_stays_as_it_is(words: str) -> None:
    refusal = InvalidRequest(words)
    assert blamed(layout_of("", {}).grammar(TOOLS, AUTO), refusal, TOOLS) is refusal
    assert blamed(None, refusal, TOOLS) is refusal


def test_an_adapter_writes_calls_as_its_layout_says() -> None:
    used = adapter_layout("chatml", {})
    assert used is not None
    assert used.syntax.block([used.syntax.call("now", {})]) == (
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )
    assert adapter_layout("unheard of", {}) is None


cities = st.text('ab "\\{}[]</>\nä🐟', max_size=8)
days = st.none() | st.lists(st.integers(-99, 99), max_size=3)


@cache
def plain_acceptor(is_forced: bool) -> Accepts:
    return acceptor(tiny().directory, layout_of("", {}).grammar(TOOLS, REQUIRED if is_forced else AUTO))


@settings(deadline=None)
@given(st.lists(st.tuples(cities, days), min_size=1, max_size=2), st.booleans())
def test_what_the_grammar_lets_through_the_parser_reads(
    made: list[tuple[str, list[int] | None]], is_forced: bool
) -> None:
    used = layout_of("", {})
    fields = [{"city": city} if listed is None else {"city": city, "days": listed} for city, listed in made]
    answer = used.syntax.block([used.syntax.call("weather", one) for one in fields])
    assert plain_acceptor(is_forced)(answer)
    parser = used.parser(TOOLS, is_certain=True)
    said = [*parser.push(answer), *parser.flush()]
    assert not any(isinstance(one, str) for one in said)

"""Calls out of an answer's text: the same however it is cut, nothing lost, nothing made up."""

import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicas.engine import CallPiece
from replicas.tools.parser import CallParser, Said
from replicas.tools.syntax import HERMES, LLAMA, PHI, CallSyntax

NAMES = ("weather", "find_all", "f-2")
SYNTAXES = (HERMES, PHI, LLAMA)
Told = list[str | tuple[str, object]]


def told(said: Iterable[Said]) -> Told:
    """What was said with neighbouring pieces joined: texts, and calls with their arguments parsed where they parse."""
    found: list[list[str] | str] = []
    for one in said:
        if isinstance(one, str):
            found[-1:] = [found[-1] + one] if found and isinstance(found[-1], str) else [*found[-1:], one]
        elif one.name is not None:
            found.append([one.name, one.arguments])
        else:
            assert isinstance(found[-1], list)
            found[-1][1] += one.arguments
    return [one if isinstance(one, str) else (one[0], _value(one[1])) for one in found]


def _value(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def read(syntax: CallSyntax, pieces: Sequence[str], *, is_certain: bool = False) -> list[Said]:
    parser = CallParser(syntax, NAMES, is_certain=is_certain)
    return [*(said for piece in pieces for said in parser.push(piece)), *parser.flush()]


def whole(syntax: CallSyntax, text: str, *, is_certain: bool = False) -> Told:
    return told(read(syntax, [text], is_certain=is_certain))


scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(['"}', "</tool_call>", "\\"])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3), max_leaves=6
)
calls = st.tuples(st.sampled_from(NAMES), st.dictionaries(st.text(max_size=5), values, max_size=3))
SCRAPS = [
    "<tool_call>",
    "</tool_call>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools",
    "<|python_tag|>",
    "{",
    "}",
    "[",
]
SCRAPS += [']"', '"', "\\", "\n", " ", "a", "<", "<tool", '{"name": "weather", "arguments": {', '{"name": "weather"']
scraps = st.lists(st.sampled_from(SCRAPS) | st.text(max_size=3), max_size=12).map("".join)
syntaxes = st.sampled_from(SYNTAXES)


@settings(deadline=None)
@given(syntaxes, st.booleans(), scraps, st.lists(calls, max_size=2), scraps, st.data())
@example(HERMES, False, "<tool_call>", [("weather", {})], "", None)
def test_any_cut_of_a_text_says_the_same(
    syntax: CallSyntax,
    is_certain: bool,
    before: str,
    made: list[tuple[str, dict[str, object]]],
    after: str,
    data: object,
) -> None:
    block = syntax.block([syntax.call(name, arguments) for name, arguments in made]) if made else ""
    text = before + block + after
    expected = whole(syntax, text, is_certain=is_certain)
    assert told(read(syntax, list(text), is_certain=is_certain)) == expected
    if isinstance(data, st.DataObject):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert told(read(syntax, pieces, is_certain=is_certain)) == expected


@settings(deadline=None)
@given(syntaxes, st.booleans(), st.lists(calls, min_size=1, max_size=3))
def test_calls_are_read_as_they_were_written(
    syntax: CallSyntax, is_certain: bool, made: list[tuple[str, dict[str, object]]]
) -> None:
    text = syntax.block([syntax.call(name, arguments) for name, arguments in made])
    assert whole(syntax, text, is_certain=is_certain) == made
    assert [one.index for one in read(syntax, [text]) if isinstance(one, CallPiece) and one.name] == [*range(len(made))]


@settings(deadline=None)
@given(syntaxes, st.booleans(), scraps)
def test_without_calls_the_text_comes_back_whole(syntax: CallSyntax, is_certain: bool, text: str) -> None:
    said = whole(syntax, text, is_certain=is_certain)
    if all(isinstance(one, str) for one in said):
        assert "".join(map(str, said)) == text


def test_words_before_between_and_after_calls_stay() -> None:
    call = HERMES.block(['{"name": "weather", "arguments": {}}'])
    said = whole(HERMES, f"Let me see.\n{call}\nand\n{call}\n\nDone. ")
    assert said == ["Let me see.", ("weather", {}), "\nand", ("weather", {}), "\n\nDone. "]


def test_arguments_are_told_as_they_come_where_a_grammar_vouches_for_them() -> None:
    parser = CallParser(HERMES, NAMES, is_certain=True)
    assert parser.push('<tool_call>\n{"name": "weather", "arg') == []
    assert parser.push('uments": {"city": "O') == [CallPiece(0, "weather"), CallPiece(0, arguments='{"city": "O')]
    assert parser.push('slo"}}\n</tool_') == [CallPiece(0, arguments='slo"}')]
    assert parser.push("call>") == parser.flush() == []


def test_a_call_that_is_cut_off_keeps_what_was_told_of_it() -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": "O'
    assert whole(HERMES, text, is_certain=True) == [("weather", '{"city": "O')]
    assert whole(HERMES, text) == [text]


def cut(syntax: CallSyntax, text: str, *, is_certain: bool = True, is_only_calls: bool = False) -> Told:
    parser = CallParser(syntax, NAMES, is_certain=is_certain, is_only_calls=is_only_calls)
    return told([*parser.push(text), *parser.flush(is_cut=True)])


@settings(deadline=None)
@given(syntaxes, st.lists(calls, min_size=1, max_size=2), st.integers(0, 80))
def test_an_answer_of_calls_that_is_cut_anywhere_holds_no_text(
    syntax: CallSyntax, made: list[tuple[str, dict[str, object]]], at: int
) -> None:
    text = syntax.block([syntax.call(name, arguments) for name, arguments in made])
    said = cut(syntax, text[:at], is_only_calls=True)
    assert [one for one in said if isinstance(one, str)] == []


@settings(deadline=None)
@given(st.sampled_from([HERMES, PHI]), calls, st.integers(0, 80))
def test_an_answer_that_is_cut_in_a_call_keeps_its_words_and_no_markup(
    syntax: CallSyntax, made: tuple[str, dict[str, object]], at: int
) -> None:
    opened = "I look.\n" + syntax.opener
    text = "I look.\n" + syntax.block([syntax.call(*made)])
    said = cut(syntax, text[: len(opened) + at])
    assert [one for one in said if isinstance(one, str)] == ["I look."]


def test_words_that_are_cut_stay_whatever_they_end_in() -> None:
    assert cut(HERMES, "I look. <tool_") == ["I look. <tool_"]
    assert cut(PHI, "The functools[1") == ["The functools[1"]
    assert cut(HERMES, '<tool_call>{"name', is_certain=False) == ['<tool_call>{"name']
    assert cut(HERMES, "<tool", is_certain=False, is_only_calls=True) == ["<tool"]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": []}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {]}</tool_call>',
        '<tool_call>[{"name": "weather"}, 7]</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        "<tool_call>[]</tool_call>",
        "<tool_call>weather</tool_call>",
        "<tool_call>",
        "</tool_call>",
    ],
)
def test_what_is_no_call_of_an_offered_tool_is_text(text: str) -> None:
    assert whole(HERMES, text) == [text]
    assert whole(HERMES, text, is_certain=True) == [text]


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (HERMES, '<tool_call> {"arguments":{"a":[1,[2]]},"name":"weather"}</tool_call>'),
        (HERMES, '<tool_call>{"type": "function", "function": {"name": "weather", "arguments": {"a": [1, [2]]}}}'),
        (PHI, 'functools[{"name": "weather", "arguments": {"a": [1, [2]]}}]'),
        (PHI, '<|tool_call|>[{"name": "weather", "parameters": {"a": [1, [2]]}}]<|/tool_call|>'),
        (LLAMA, '<|python_tag|>{"name": "weather", "parameters": {"a": [1, [2]]}}'),
        (LLAMA, '\n{"type": "function", "name": "weather", "parameters": {"a": [1, [2]]}}\n'),
    ],
)
def test_other_ways_to_write_a_call_are_read_too(syntax: CallSyntax, text: str) -> None:
    assert whole(syntax, text) == [("weather", {"a": [1, [2]]})]


def test_a_brace_in_the_middle_of_words_is_no_call_of_llamas() -> None:
    text = 'Try {"name": "weather", "parameters": {}}'
    assert whole(LLAMA, text) == [text]
    assert whole(LLAMA, '{"name": "weather"}\n{"name": "f-2"}') == [("weather", {}), ("f-2", {})]


def test_a_long_argument_costs_no_more_than_its_length() -> None:
    deep = "<tool_call>{" * 4000
    assert whole(HERMES, deep) == [deep]

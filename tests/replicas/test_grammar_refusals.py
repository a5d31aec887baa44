"""A grammar that cannot be followed is refused, and the refusal says where."""

import json

import pytest

from replicas.engine import Grammar
from tests.replicas.grammars import refused

NESTED = {"type": "object", "properties": {"list": {"type": "array", "items": {"not": {"type": "string"}}}}}


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        (json.dumps(NESTED), "/properties/list/items/not", "'not' is not supported"),
        ('{"properties": {"a/b~c": {"uniqueItems": true}}}', "/properties/a~1b~0c/uniqueItems", "not supported"),
        ('{"if": {"const": 1}, "then": {"type": "null"}}', "/if", "not supported"),
        ('{"anyOf": [{"type": "null"}, {"type": "nul"}]}', "/anyOf/1/type", "Invalid type: nul"),
        ('{"items": {"type": "string", "pattern": "a(?=b)"}}', "/items/pattern", "at character 2"),
        ('{"items": {"$ref": "#/$defs/gone"}}', "/items/$ref", "'/$defs/gone' does not exist"),
        ('{"$ref": "http://example.com/schema"}', "/$ref", "does not fetch"),
        ('{"$defs": {"d": {"minimum": "3"}}, "items": {"$ref": "#/$defs/d"}}', "/$defs/d/minimum", "Expected"),
        ('{"items": {"type": "string", "pattern": "\\\\d/x("}}', "/items/pattern", "unclosed group, at character 5"),
        ('{"$defs": {"n": {"type": "integer", "minimum": 5, "maximum": 2}}, "$ref": "#/$defs/n"}', "/$defs/n", "5"),
        ('{"properties": {"a": 7}}', "/properties/a", "must be an object or boolean"),
        ('{"properties": {"m": {"multipleOf": 99991}}}', "/properties/m/multipleOf", "too large"),
        ('{"items": {"const": "\\ud800"}}', "/items", "hex escape"),
    ],
)
def test_a_schema_is_refused_with_a_pointer_to_what_is_wrong(text: str, pointer: str, words: str) -> None:
    error = refused(Grammar("json_schema", text))
    assert error.param is not None
    assert error.param.startswith("json_schema")
    assert error.param.removeprefix("json_schema").removeprefix("#").startswith(pointer)
    assert words in error.message


@pytest.mark.parametrize(
    "text", ["{", "[1]", "7", "false", '"x"', '{"enum": []}', '{"$ref": "#"}', '{"minLength": NaN}']
)
def test_what_is_no_schema_or_matches_nothing_is_refused(text: str) -> None:
    assert (refused(Grammar("json_schema", text)).param or "").startswith("json_schema")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab(", "unclosed group, at character 3"),
        ("x\ny[z-a]", "at character 5"),
        ("a(?=b)", "look-around"),
        (r"\bx", "lookarounds"),
        ("a{5,2}", "at character 2"),
        ("\ud800", "surrogate"),
        ("ab\\", "ends in a backslash"),
    ],
)
def test_an_expression_is_refused_with_the_place_in_it(text: str, words: str) -> None:
    error = refused(Grammar("regex", text))
    assert error.param == "regex"
    assert words in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start: x", 'line 1, column 8: unknown name: "x"'),
        ('start: x\nx: /a(/ "b"', "line 2, column 4: unclosed group, at character 2"),
        ('start: "a"\nstart: "b"', "line 2, column 8: duplicate rule"),
        ('start: %json {"type": "objec"}', "line 1, column 8: failed to compile JSON schema: Invalid type: objec"),
        ('x: "a"\nstart: x %json {\n"items": {"type": "objec"}}', "Invalid type: objec, at #/items/type"),
        ('other: "x"', "no start rule"),
        ('{"grammars": []}', "line 1, column 1"),
        ("start: start start", "no text matches it"),
        ('root ::= "a" (', "not GBNF"),
        ("\ud800", "hex escape"),
    ],
)
def test_a_lark_grammar_is_refused_with_line_and_column(text: str, words: str) -> None:
    error = refused(Grammar("lark", text))
    assert error.param == "lark"
    assert words in error.message


def test_a_refusal_does_not_repeat_the_whole_grammar() -> None:
    assert len(refused(Grammar("regex", "a" * 20_000 + "(")).message) < 500


def test_a_fault_inside_llguidance_is_a_refusal_like_any_other() -> None:
    # It cuts its message in the middle of a character, and panics.
    error = refused(
        Grammar("json_schema", json.dumps({"properties": {"a": {"minimum": "é" * 200}}}, ensure_ascii=False))
    )
    assert "not well-formed" in error.message

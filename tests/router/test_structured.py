"""What clients ask of an answer's form, and what becomes of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from router.structured import CHOICES, anthropic_grammar, openai_grammar

SCHEMA = {"type": "object", "properties": {"é": {"type": "string"}}}
AS_GRAMMAR = Grammar("json_schema", json.dumps(SCHEMA, ensure_ascii=False))
ANY_OBJECT = Grammar("json_schema", '{"type": "object"}')
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "json_schema", "schema", "format", "json", "choice", "regex", "grammar", "json_object"]
            ),
            inner | st.sampled_from(["json_schema", "json_object", "text"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = ("response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")


@pytest.mark.parametrize(
    ("body", "grammar"),
    [
        ({}, None),
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ANY_OBJECT),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}, AS_GRAMMAR),
        ({"guided_json": SCHEMA}, AS_GRAMMAR),
        ({"guided_json": json.dumps(SCHEMA)}, AS_GRAMMAR),
        ({"guided_regex": "a+"}, Grammar("regex", "a+")),
        ({"guided_grammar": 'root ::= "a"'}, Grammar("lark", 'root ::= "a"')),
        ({"guided_choice": ["yes", 'a "no"', "日\n"]}, Grammar("lark", r'start: "yes" | "a \"no\"" | "日\n"')),
        ({"structured_outputs": {"json": SCHEMA}}, AS_GRAMMAR),
        ({"structured_outputs": {"regex": "a+", "json": None}}, Grammar("regex", "a+")),
        ({"structured_outputs": {"choice": ["a"]}}, Grammar("lark", 'start: "a"')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Grammar("lark", 'start: "a"')),
        ({"structured_outputs": {"json_object": True}}, ANY_OBJECT),
        ({"structured_outputs": {"json_object": False}}, None),
        ({"structured_outputs": {"regex": "a+", "disable_fallback": True, "other": None}}, Grammar("regex", "a+")),
        ({"response_format": {"type": "text"}, "guided_regex": "a+"}, Grammar("regex", "a+")),
    ],
)
def test_a_chat_completions_fields_become_a_grammar(body: dict[str, object], grammar: Grammar | None) -> None:
    assert openai_grammar(body) == grammar


@pytest.mark.parametrize(
    ("body", "grammar"),
    [
        ({}, None),
        ({"output_config": {"effort": "high"}}, None),
        ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, AS_GRAMMAR),
        ({"output_format": {"type": "json_schema", "schema": SCHEMA}}, AS_GRAMMAR),
        ({"guided_json": SCHEMA}, AS_GRAMMAR),
    ],
)
def test_a_messages_bodys_fields_become_a_grammar(body: dict[str, object], grammar: Grammar | None) -> None:
    assert anthropic_grammar(body) == grammar


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
            "response_format.json_schema.schema",
        ),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[1]"}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": "yes"}, "guided_choice"),
        ({"guided_choice": ["a", 7]}, "guided_choice[1]"),
        ({"guided_choice": ["a"] * (CHOICES + 1)}, "guided_choice"),
        ({"structured_outputs": {"json_object": "yes"}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"choice": [""]}}, "structured_outputs.choice[0]"),
        ({"structured_outputs": {"jsn": SCHEMA}}, "structured_outputs.jsn"),
        ({"structured_outputs": {"regex": "a", "foo": 1}}, "structured_outputs.foo"),
        ({"structured_outputs": {"json": {}, "whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    ],
)
def test_a_wrong_shape_is_refused_by_the_path_of_the_field(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        openai_grammar(body)
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"output_config": []}, "output_config"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema", "schema": "{}"}}, "output_format.schema"),
        ({"output_format": {"type": "json_schema", "schema": {}}, "guided_regex": "a"}, "guided_regex"),
    ],
)
def test_a_messages_body_of_the_wrong_shape_is_refused_by_the_path(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        anthropic_grammar(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
    ],
)
def test_two_wishes_at_once_are_refused(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest, match="one of the two") as refused:
        openai_grammar(body)
    assert refused.value.param == param


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
def test_any_json_in_the_fields_is_a_grammar_or_a_refusal_that_names_one_of_them(body: dict[str, object]) -> None:
    outcome = _outcome(body)
    assert outcome is None or outcome.startswith(FIELDS)


def _outcome(body: dict[str, object]) -> str | None:
    """The field that a refusal names, None if there is none."""
    try:
        openai_grammar(body)
    except InvalidRequest as error:
        return str(error.param)
    return None

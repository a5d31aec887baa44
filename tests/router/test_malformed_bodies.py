"""Whatever a caller sends is an exchange or an InvalidRequest that says which field and what would be right."""

import json
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from replicas.errors import InvalidRequest
from router.anthropic import parse_count
from router.body import DEPTH
from router.call import Dialect
from tests.router.exchanges import ASKED, anthropic, body, openai

DIALECTS: list[Dialect] = [anthropic(), openai()]
both = pytest.mark.parametrize("dialect", DIALECTS, ids=["anthropic", "openai"])


def refused(dialect: Dialect, raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        dialect.parse(raw, {})
    return caught.value


@both
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"{",
        b'{"messages": [}',
        b"\xff\xfe",
        body() + b"x",
        body().replace(b"Say hello", b"\\ud800"),
        body().replace(b"Say hello", b"\xed\xa0\x80"),
        body().replace(b"16", b"NaN"),
        body().replace(b"{", b'{"novelty": -Infinity,', 1),
        body().replace(b"16", b"9" * 10_000),
    ],
    ids=repr,
)
def test_what_is_no_json_is_refused_as_such(dialect: Dialect, raw: bytes) -> None:
    assert refused(dialect, raw).message.startswith("the body is not valid JSON: ")


@both
@pytest.mark.parametrize("levels", [DEPTH, 5000, 100_000])
def test_json_that_is_nested_too_deep_is_refused_with_what_is_allowed(dialect: Dialect, levels: int) -> None:
    nested = body().replace(b"{", b'{"novelty": ' + b"[" * levels + b"]" * levels + b",", 1)
    assert refused(dialect, nested).message.startswith(f"the body is nested too deep: at most {DEPTH} ")


@both
def test_json_of_the_depth_that_is_allowed_is_read(dialect: Dialect) -> None:
    levels = DEPTH - 1  # the body itself is one
    nested = body().replace(b"{", b'{"novelty": ' + b"[" * levels + b"]" * levels + b",", 1)
    assert dialect.parse(nested, {})


@both
@pytest.mark.parametrize("raw", [b"[]", b"null", b'"x"', b"7"])
def test_json_that_is_no_object_is_refused_with_what_would_be_right(dialect: Dialect, raw: bytes) -> None:
    assert "must be a JSON object" in refused(dialect, raw).message


SAMPLING = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", "1"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.01),
    ("top_k", -2),
    ("top_k", 1.5),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", "16"),
    ("max_tokens", True),
    ("max_tokens", 16.5),
    ("seed", 2**63),
    ("seed", -(2**63) - 1),
    ("seed", "7"),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-40),
    ("min_tokens", -1),
    ("min_tokens", 17),
    ("ignore_eos", "yes"),
    ("stream", "true"),
    ("stream", 1),
    ("model", 7),
    ("messages", "hi"),
    ("messages", {}),
    ("messages", []),
]


@both
@pytest.mark.parametrize(("field", "value"), SAMPLING)
def test_a_value_out_of_range_is_refused_by_name(dialect: Dialect, field: str, value: object) -> None:
    error = refused(dialect, body(**{field: value}))
    assert error.param == field
    assert error.message.startswith(f"{field}: ")


MESSAGES = [
    ([7], "messages[0]"),
    ([{"role": "user", "content": "a"}, {"content": "b"}], "messages[1].role"),
    ([{"role": "robot", "content": "a"}], "messages[0].role"),
    ([{"role": "user", "content": 7}], "messages[0].content"),
    ([{"role": "user", "content": {"type": "text", "text": "a"}}], "messages[0].content"),
    ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [{"type": "text", "text": None}]}], "messages[0].content[0].text"),
    (
        [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": 7}]}]}],
        "messages[0].content[0].content[0].text",
    ),
    ([{"role": "user", "content": None}], "messages"),
]


@both
@pytest.mark.parametrize(("messages", "param"), MESSAGES)
def test_a_wrong_message_is_refused_with_the_path_to_it(dialect: Dialect, messages: object, param: str) -> None:
    error = refused(dialect, body(messages=messages))
    assert error.param == param
    assert error.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("dialect", "field"),
    [(anthropic(), "messages"), (anthropic(), "stop_sequences"), (openai(), "messages"), (openai(), "stop")],
)
def test_only_the_first_of_many_wrong_items_is_collected(dialect: Dialect, field: str) -> None:
    cause = refused(dialect, body(**{field: [7] * 10})).__cause__
    assert isinstance(cause, ValidationError)
    assert cause.error_count() == 1


@both
def test_an_object_is_asked_for_in_plain_words(dialect: Dialect) -> None:
    assert refused(dialect, body(messages=[7])).message == "messages[0]: Input should be an object"


@both
def test_the_message_does_not_repeat_the_prompt(dialect: Dialect) -> None:
    error = refused(dialect, body(messages=[{"role": "my secret", "content": "my secret"}]))
    assert "my secret" not in f"{error} {error.__cause__}"


def test_required_fields_are_asked_for() -> None:
    assert refused(anthropic(), body(max_tokens=None)).message == "max_tokens: Field required"
    for dialect in DIALECTS:
        assert refused(dialect, body(messages=None)).message == "messages: Field required"


def test_system_must_be_text() -> None:
    assert refused(anthropic(), body(system=7)).param == "system"
    assert refused(anthropic(), body(system=[{"type": "text", "text": 7}])).param == "system[0].text"


@pytest.mark.parametrize(
    ("stop", "param"), [([""], "[0]"), (["a", 7], "[1]"), (["a"] * 17, ""), (7, ""), (["a" * 2000], "[0]")]
)
def test_stop_strings_are_few_and_not_empty(stop: object, param: str) -> None:
    assert refused(openai(), body(stop=stop)).param == f"stop{param}"
    assert refused(anthropic(), body(stop_sequences=stop)).param == f"stop_sequences{param}"


def test_an_empty_stop_string_is_refused() -> None:
    assert refused(openai(), body(stop="")).param == "stop[0]"


def test_stream_options_must_be_an_object() -> None:
    assert refused(openai(), body(stream_options=[])).param == "stream_options"
    assert refused(openai(), body(stream_options={"include_usage": "yes"})).param == "stream_options.include_usage"


FIELDS = [*dict(SAMPLING), "stop", "stop_sequences", "system", "metadata", "tools", "n", "stream_options", "session_id"]
FIELDS += ["tool_choice", "functions", "function_call", "response_format", "output_config", "guided_json", "logprobs"]
BLOCKS = ["text", "image", "document", "search_result", "tool_use", "tool_result", "thinking", "refusal", "file", "new"]
KEYS = ["type", "text", "content", "source", "data", "title", "name", "input", "is_error", "refusal", "tool_calls"]
KEYS += ["function", "input_schema", "parameters", "schema", "format", "json_schema", "allowed_tools", "mode"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(BLOCKS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner),
    max_leaves=12,
)
roles = st.sampled_from(["user", "assistant", "system", "tool", "developer"])
messages = st.lists(st.fixed_dictionaries({"role": roles, "content": values}, optional={"tool_calls": values}))
bodies = st.fixed_dictionaries({}, optional={**dict.fromkeys(FIELDS, values), "messages": messages | values})


def accepts_or_refuses(raw: bytes) -> None:
    for dialect in DIALECTS:
        try:
            call = dialect.parse(raw, {}).call
        except InvalidRequest as error:
            assert error.message  # noqa: PT017 - both outcomes are right; a third would raise
        else:
            assert call.messages
            assert all(isinstance(cast(object, m.content), str) for m in call.messages)
    try:
        assert parse_count(raw, {}).messages
    except InvalidRequest as error:
        assert error.message  # noqa: PT017 - likewise


@settings(deadline=None, max_examples=300)
@given(bodies)
def test_any_object_is_accepted_or_refused(value: dict[str, object]) -> None:
    accepts_or_refuses(json.dumps({**ASKED, **value}).encode())


@settings(deadline=None)
@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
@example(b'{"messages":' * 3000)
@example(b'{"messages":[{"role":"user","content":[{"type":"tool_use","input":1e999}]}],"max_tokens":1}')
def test_any_bytes_are_accepted_or_refused(raw: bytes) -> None:
    accepts_or_refuses(raw)

"""What is said: bounded as asked, made of the question, the same each time; and when each part of it is due."""

import json

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from cluster.upstream.asked import Asked, Dialect, Tool
from cluster.upstream.example import example
from cluster.upstream.reply import Reply, reply_to
from cluster.upstream.response import Ending, Frame, Response
from cluster.upstream.script import AnswerEntry, Call, ModelCard
from cluster.upstream.tokens import count, pieces

CARD = ModelCard(id="m")
TEXTS = st.text(max_size=60)
NAMES = st.text("abc", min_size=1, max_size=3)
LEAVES = st.one_of(
    st.just({"type": "string"}),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-9, 9)),
    st.builds(lambda high: {"type": "number", "maximum": high}, st.integers(-9, 9)),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low}, st.integers(-9, 9)),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"const": [1]}, {"enum": ["x", 2]}, {"type": ["string", "null"]}]
    ),
    st.just({"$ref": "#/$defs/leaf"}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": list(properties)},
            st.dictionaries(NAMES, inner, max_size=3),
        ),
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low}, inner, st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


def asked(question: str, **more: object) -> Asked:
    return Asked(Dialect.OPENAI, "m", question, question, **more)  # type: ignore[arg-type]  # fields by name


def said(question: str, entry: AnswerEntry | None = None, **more: object) -> Reply:
    return reply_to(asked(question, **more), entry, CARD, 0)


@given(TEXTS)
def test_the_tokens_of_a_text_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


@given(SCHEMAS, TEXTS)
def test_an_example_matches_its_schema(schema: dict[str, object], text: str) -> None:
    whole = {**schema, "$defs": {"leaf": {"type": "integer"}}}
    jsonschema.validate(example(whole, text), whole)


@given(TEXTS, st.integers(1, 30), st.booleans())
def test_an_answer_keeps_to_its_limit(text: str, limit: int, is_thinking: bool) -> None:
    reply = said(text, max_tokens=limit, is_thinking=is_thinking)
    free = said(text, is_thinking=is_thinking)
    assert reply.usage.output <= limit
    assert (reply.stop == "max_tokens") is (free.usage.output > limit)
    assert free.text.startswith(reply.text)


@given(TEXTS, st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_an_answer_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    reply = said(text, stops=tuple(stops))
    assert not any(stop in reply.text for stop in stops)
    assert (reply.stop_sequence is None) == (reply.text == text)
    assert text.startswith(reply.text + (reply.stop_sequence or ""))


def test_a_call_without_input_gets_an_example() -> None:
    tool = Tool("find", {"type": "object", "properties": {"key": {"type": "string", "maxLength": 4}}})
    reply = said("what is it", AnswerEntry(calls=(Call(name="find"),)), tools=(tool,))
    assert [(call.name, call.input) for call in reply.calls] == [("find", {"key": "what"})]
    assert reply.usage.output == count(json.dumps({"key": "what"}))


def test_a_call_that_does_not_fit_is_left_out() -> None:
    entry = AnswerEntry(text="I look.", calls=(Call(name="find", input={"key": "x" * 50}),))
    reply = said("go", entry, max_tokens=5)
    assert (reply.text, reply.calls, reply.stop) == ("I look.", (), "max_tokens")


def test_a_tool_is_called_when_its_name_is_in_the_question_and_once() -> None:
    tools = (Tool("find", {"type": "object"}), Tool("lose", {"type": "object"}))
    assert [call.name for call in said("please lose it", tools=tools).calls] == ["lose"]
    assert said("please lose it", tools=tools, is_after_tool=True).calls == ()


def response(frames: tuple[Frame, ...], length: int | None = None, ending: Ending = Ending.COMPLETE) -> Response:
    return Response(200, (), frames, length, ending, first_byte_s=2.0, token_s=0.5)


def test_a_stream_is_due_by_its_tokens_after_the_first_byte() -> None:
    frames = (Frame(b": wait", is_comment=True), Frame(b"open"), Frame(b"a", 1), Frame(b"b", 2), Frame(b"end"))
    batches = [(batch.at_s, batch.data, batch.tokens) for batch in response(frames).batches()]
    assert batches == [
        (0.0, b"6\r\n: wait\r\n", 0),
        (2.0, b"4\r\nopen\r\n", 0),
        (2.5, b"1\r\na\r\n", 1),
        (3.5, b"1\r\nb\r\n3\r\nend\r\n0\r\n\r\n", 2),
    ]


def test_a_whole_answer_is_due_when_all_its_tokens_are() -> None:
    [batch] = response((Frame(b"{}", 4),), length=2).batches()
    assert (batch.at_s, batch.data) == (4.0, b"{}")


def test_a_stream_that_is_cut_does_not_say_that_it_ended() -> None:
    [*_, last] = response((Frame(b"a", 1),), ending=Ending.CUT).batches()
    assert last.data == b"1\r\na\r\n"

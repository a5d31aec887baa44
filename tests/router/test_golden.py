"""The wire formats, byte for byte, and what every stream must hold whatever is fed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.engine import Chunk, Final, Finish
from replicas.errors import (
    BodyTooLarge,
    ContextOverflow,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ShoalError,
    Unavailable,
)
from router.call import Answer, Dialect
from tests.router.exchanges import GOLDEN, PRODUCERS, TEXT, anthropic, body, chunks, final, openai, stream


@pytest.mark.parametrize("name", PRODUCERS)
def test_the_bytes_are_those_of_the_golden_file(name: str) -> None:
    assert PRODUCERS[name]() == (GOLDEN / name).read_bytes()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(PRODUCERS)


DIALECTS: list[Dialect] = [anthropic(), openai()]


def events(raw: bytes) -> list[tuple[str, dict[str, object]]]:
    """The named events of an Anthropic stream; fails on anything that is not one."""
    found = []
    for part in raw.decode("ascii").split("\n\n")[:-1]:
        name, data = part.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append((value["type"], value))
    return found


def texts(raw: bytes) -> list[str]:
    """The text of each content delta of either dialect."""
    values = [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")]
    deltas = [v["delta"] if v.get("type") == "content_block_delta" else _openai_delta(v) for v in values]
    return [str(d.get("text") or d.get("content")) for d in deltas if d.get("text") or d.get("content")]


def _openai_delta(value: dict[str, list[dict[str, dict[str, str]]]]) -> dict[str, str]:
    return value["choices"][0]["delta"] if value.get("choices") else {}


Fed = st.lists(
    st.lists(
        st.builds(
            Chunk,
            st.just("x"),
            st.text(max_size=3),
            st.just(1),
            st.none() | st.builds(final, st.sampled_from(Finish), st.none() | st.just("stop")),
        ),
        max_size=3,
    ),
    max_size=5,
)


@settings(deadline=None)
@given(Fed)
def test_an_anthropic_stream_keeps_its_grammar_whatever_is_fed(steps: list[list[Chunk]]) -> None:
    steps = [*steps, [Chunk("x", "", 0, final())]]
    names = [name for name, _ in events(stream(anthropic(), final(), steps)) if name != "ping"]
    assert names[0] == "message_start"
    if names[-1] == "error":
        assert names[1:-1] in ([], ["content_block_start"] + ["content_block_delta"] * (len(names) - 3))
    else:
        assert names[1] == "content_block_start"
        assert set(names[2:-3]) <= {"content_block_delta"}
        assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@settings(deadline=None)
@given(Fed)
def test_both_dialects_carry_exactly_the_text_up_to_the_first_final(steps: list[list[Chunk]]) -> None:
    steps = [*steps, [Chunk("x", "", 0, final())]]
    flat = [chunk for step in steps for chunk in step]
    end = next(i for i, chunk in enumerate(flat) if chunk.final is not None)
    said = "".join(chunk.text for chunk in flat[: end + 1])
    for dialect in DIALECTS:
        assert "".join(texts(stream(dialect, final(), steps))) == said


def test_the_chunks_of_one_step_make_one_delta() -> None:
    assert texts(stream(anthropic(), final(), [chunks(final())])) == [TEXT]
    assert texts(stream(openai(), final(), [chunks(final())])) == [TEXT]


def test_a_step_without_text_sends_nothing() -> None:
    for dialect in DIALECTS:
        reply = dialect.parse(body(stream=True), {}).reply
        reply.begin(1)
        assert reply.feed([]) == b""
        assert reply.feed([Chunk("x", "", 1)]) == b""


@pytest.mark.parametrize("dialect", [anthropic(), openai()])
def test_nothing_follows_the_end_of_a_stream(dialect: Dialect) -> None:
    reply = dialect.parse(body(stream=True), {}).reply
    reply.begin(1)
    assert reply.feed(chunks(final())) != b""
    assert reply.feed(chunks(final())) == b""


@pytest.mark.parametrize(
    ("finish", "anthropic_says", "openai_says"),
    [
        (Finish.END, "end_turn", "stop"),
        (Finish.LENGTH, "max_tokens", "length"),
        (Finish.STOP, "stop_sequence", "stop"),
        (Finish.CONTEXT, "model_context_window_exceeded", "length"),
        (Finish.CANCELLED, "max_tokens", "length"),
        (Finish.REFUSED, "refusal", "content_filter"),
    ],
)
def test_every_way_to_finish_has_its_word(finish: Finish, anthropic_says: str, openai_says: str) -> None:
    answer = Answer("hi", final(finish))
    assert json.loads(anthropic().parse(body(), {}).reply.whole(answer))["stop_reason"] == anthropic_says
    assert json.loads(openai().parse(body(), {}).reply.whole(answer))["choices"][0]["finish_reason"] == openai_says


@pytest.mark.parametrize("last", [final(Finish.CANCELLED), Final(Finish.ERROR, final().usage)])
def test_a_stream_that_the_server_cuts_ends_in_an_error_and_not_as_a_success(last: Final) -> None:
    assert events(stream(anthropic(), last))[-1][0] == "error"
    assert b'"finish_reason":"' not in stream(openai(), last)
    assert b'"error":{' in stream(openai(), last)


def test_input_tokens_exclude_what_the_cache_held() -> None:
    usage = json.loads(anthropic().parse(body(), {}).reply.whole(Answer("", final(cached=5))))["usage"]
    assert usage["input_tokens"] == 7
    assert usage["cache_read_input_tokens"] == 5


def test_a_model_named_like_the_mark_in_the_prebuilt_chunk_breaks_nothing() -> None:
    assert texts(stream(openai(), final(), [chunks(final())], model="\x00")) == [TEXT]


def test_an_answer_to_a_request_without_a_model_names_the_default() -> None:
    for dialect in DIALECTS:
        exchange = dialect.parse(body(model=None), {})
        assert exchange.call.model is None
        assert json.loads(exchange.reply.whole(Answer("", final())))["model"] == "smol"


@pytest.mark.parametrize(
    ("error", "anthropic_type", "openai_type"),
    [
        (InvalidRequest("no", "n"), "invalid_request_error", "invalid_request_error"),
        (ContextOverflow(2, 1), "invalid_request_error", "invalid_request_error"),
        (NotFound("model", "x"), "not_found_error", "invalid_request_error"),
        (BodyTooLarge(9), "request_too_large", "invalid_request_error"),
        (DeadlineExceeded(1.0), "timeout_error", "timeout_error"),
        (Overloaded("smol", 1.0), "rate_limit_error", "rate_limit_error"),
        (EngineFailed("why"), "api_error", "server_error"),
        (Unavailable("smol"), "api_error", "server_error"),
        (ShoalError("/a/path"), "api_error", "server_error"),
    ],
)
def test_every_error_has_its_type_in_both_dialects(error: ShoalError, anthropic_type: str, openai_type: str) -> None:
    said = json.loads(anthropic().error(error, "req_9"))
    assert (said["type"], said["error"]["type"], said["request_id"]) == ("error", anthropic_type, "req_9")
    assert said["error"]["message"]
    other = json.loads(openai().error(error, "req_9"))["error"]
    assert other["type"] == openai_type
    assert set(other) == {"message", "type", "param", "code"}


def test_why_an_engine_failed_is_not_told_to_the_caller() -> None:
    for dialect in DIALECTS:
        for error in (EngineFailed("/secret/path"), ShoalError("/secret/path")):
            assert b"secret" not in dialect.error(error, "req_1")
        assert b"secret" not in stream(dialect, final(Finish.ERROR))

"""What only a cloud's own dialect can say reaches a caller who speaks it, and breaks nothing for one who does not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.cloud.answer import CloudChunk, CloudFinal, Native, Part
from replicas.cloud.release import CloudKind
from replicas.engine import CallPiece, Chunk, Finish, Usage
from router.call import Answer
from tests.cluster.upstream.played import QUESTION
from tests.replicas.clouds import KINDS, ROUTER
from tests.replicas.clouds import told as asked
from tests.router.exchanges import anthropic, openai, stream
from tests.router.test_golden import events
from tests.router.test_translate import through

THINKING = {"type": "enabled", "budget_tokens": 1024}
FORMS = pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "whole"])
FINAL = CloudFinal(Finish.END, Usage(3, 2))


def thinking_body(**more: object) -> dict[str, object]:
    return {
        "model": "m",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        **more,
    }


def test_thinking_is_streamed_as_the_cloud_said_it_and_its_block_comes_first() -> None:
    told = events(through("anthropic", "anthropic", "", thinking_body(thinking=THINKING)))
    blocks = [value["content_block"] for name, value in told if name == "content_block_start"]
    assert [block["type"] for block in blocks if isinstance(block, dict)] == ["thinking", "text"]
    deltas = [value["delta"] for name, value in told if name == "content_block_delta"]
    kinds = [delta["type"] for delta in deltas if isinstance(delta, dict)]
    assert sorted(set(kinds)) == ["signature_delta", "text_delta", "thinking_delta"]
    assert [name for name, _ in told][-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_thinking_that_comes_back_is_the_same_to_the_byte() -> None:
    got = asked("anthropic", is_stream=False, thinking=THINKING)
    first = json.loads(anthropic().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(answer(got.chunks)))
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": "And?"},
    ]
    second = events(through("anthropic", "anthropic", "", thinking_body(thinking=THINKING, messages=turns)))
    assert second[-1][0] == "message_stop"
    assert [block["type"] for block in first["content"]] == ["thinking", "text"]


@pytest.mark.parametrize("to", KINDS)
def test_thinking_is_not_told_in_the_other_dialect(to: CloudKind) -> None:
    script = "answers: [{thinking: canary thought, text: hello}]"
    if to == "openai":
        got = asked("openai", script, path=ROUTER, reasoning={"effort": "low"})
        raw = stream(anthropic(), FINAL, [[chunk] for chunk in got.chunks])
    else:
        raw = stream(openai(), FINAL, [[chunk] for chunk in asked("anthropic", script, thinking=THINKING).chunks])
    assert b"canary" not in raw
    assert b"hell" in raw


@FORMS
def test_reasoning_of_a_chat_completion_comes_along(is_stream: bool) -> None:
    got = asked("openai", is_stream=is_stream, path=ROUTER, reasoning={"effort": "low"})
    whole = json.loads(openai().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(answer(got.chunks)))
    assert whole["choices"][0]["message"]["reasoning"] == f"The question is: {QUESTION}"
    raw = stream(openai(), FINAL, [[chunk] for chunk in got.chunks]).decode()
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in raw.split("\n") if line.startswith("data: {")]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == f"The question is: {QUESTION}"
    assert "".join(delta.get("content", "") for delta in deltas) == QUESTION


@FORMS
def test_a_refusal_is_a_refusal_in_its_own_dialect_and_text_in_the_other(is_stream: bool) -> None:
    got = asked("openai", "answers: [{text: I will not., stop: refusal}]", is_stream=is_stream)
    message = json.loads(openai().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(answer(got.chunks)))
    assert message["choices"][0]["message"]["refusal"] == "I will not."
    assert message["choices"][0]["message"]["content"] is None
    other = json.loads(anthropic().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(answer(got.chunks)))
    assert (other["content"], other["stop_reason"]) == ([{"type": "text", "text": "I will not."}], "refusal")


def answer(chunks: list[Chunk]) -> Answer:
    final = chunks[-1].final
    assert final is not None
    return Answer.of(chunks, final)


def native(part: Part, value: object = None) -> Chunk:
    return CloudChunk("x", "", 0, native=Native("anthropic", part, "" if value is None else json.dumps(value)))


CITED = [
    CloudChunk("x", "The sea", 1),
    native("delta", {"type": "citations_delta", "citation": {"url": "u"}}),
    native("begin", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
    native("delta", {"type": "input_json_delta", "partial_json": '{"query":'}),
    native("delta", {"type": "input_json_delta", "partial_json": '"x"}'}),
    native("end"),
    CloudChunk("x", " is blue.", 1),
]


def test_citations_and_the_clouds_own_tools_keep_their_place_in_a_whole_answer() -> None:
    whole = anthropic().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(Answer.of(CITED, FINAL))
    assert json.loads(whole)["content"] == [
        {"type": "text", "text": "The sea", "citations": [{"url": "u"}]},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "text", "text": " is blue."},
    ]


@FORMS
def test_what_a_cloud_wrote_to_its_cache_is_told(is_stream: bool) -> None:
    script = "answers: [{text: hi, cache: {read_tokens: 3, write_tokens: 2}}]"
    chunks = asked("anthropic", script, is_stream=is_stream).chunks
    told = events(stream(anthropic(), FINAL, [chunks]))[-2][1]["usage"]
    whole = json.loads(anthropic().parse(json.dumps(thinking_body()).encode(), {}).reply.whole(answer(chunks)))
    assert told == whole["usage"]
    assert told == {
        "input_tokens": 4,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 1,
    }


def test_a_turn_that_a_cloud_pauses_is_not_called_ended() -> None:
    paused = CloudFinal(Finish.END, Usage(3, 2), reason="pause_turn")
    assert events(stream(anthropic(), paused))[-2][1]["delta"] == {"stop_reason": "pause_turn", "stop_sequence": None}
    assert '"finish_reason":"stop"' in stream(openai(), paused).decode()


PIECES = st.sampled_from([*CITED, CloudChunk("x", "", 1, call=CallPiece(0, "f", "{}"))])


@settings(deadline=None)
@given(st.lists(st.lists(PIECES, max_size=4), max_size=4))
def test_a_stream_keeps_its_grammar_whatever_a_cloud_says(steps: list[list[Chunk]]) -> None:
    told = events(stream(anthropic(), FINAL, [*steps, [CloudChunk("x", "", 0, FINAL)]]))
    open_at, closed = -1, -1
    for name, value in told:
        if name == "content_block_start":
            assert (open_at, value["index"]) == (closed, closed + 1)
            open_at += 1
        elif name == "content_block_delta":
            assert value["index"] == open_at > closed
        elif name == "content_block_stop":
            assert value["index"] == open_at
            closed = open_at
    assert open_at == closed >= 0
    assert told[-1][0] == "message_stop"

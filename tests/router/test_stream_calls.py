"""Streams with calls keep each dialect's grammar and carry every call whole, however the steps are cut."""

import json
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from replicas.engine import CallPiece, Chunk
from tests.router.exchanges import anthropic, final, openai, stream

Said = str | tuple[str, str]
names = st.sampled_from(["weather", "now"])
arguments = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(json.dumps)
said_lists = st.lists(st.text(min_size=1, max_size=4) | st.tuples(names, arguments), max_size=5)


def steps_of(said: list[Said], cut: int) -> list[list[Chunk]]:
    """The answer in steps of `cut` chunks, arguments in two pieces."""
    flat: list[Chunk] = []
    index = 0
    for one in said:
        if isinstance(one, str):
            flat.append(Chunk("x", one, 1))
            continue
        name, text = one
        pieces = [CallPiece(index, name), CallPiece(index, arguments=text[:2]), CallPiece(index, arguments=text[2:])]
        flat += [Chunk("x", "", 1, call=piece) for piece in pieces]
        index += 1
    flat.append(Chunk("x", "", 0, final()))
    return [flat[start : start + cut] for start in range(0, len(flat), cut)]


def joined(said: list[Said]) -> list[Said]:
    """Neighbouring texts as one: they share a block."""
    runs = [(is_text, list(run)) for is_text, run in groupby(said, key=lambda one: isinstance(one, str))]
    return [one for is_text, run in runs for one in (["".join(map(str, run))] if is_text else run)]


def values(raw: bytes) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")]


@settings(deadline=None)
@given(said_lists, st.integers(1, 6))
def test_an_anthropic_stream_closes_each_block_before_the_next(said: list[Said], cut: int) -> None:
    events = values(stream(anthropic(), final(), steps_of(said, cut)))
    blocks: list[list[dict[str, object]]] = []
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            blocks.append([])
        if event["type"] != "ping":
            blocks[-1].append(event)
    read: list[Said] = []
    for place, block in enumerate(blocks):
        assert [event["index"] for event in block] == [place] * len(block)
        assert block[-1]["type"] == "content_block_stop"
        read.append(_block(block[0]["content_block"], [event["delta"] for event in block[1:-1]]))
    assert read == (joined(said) or [""])
    assert ('"stop_reason": "tool_use"' in json.dumps(events[-2])) == any(not isinstance(one, str) for one in said)


def _block(started: object, deltas: list[object]) -> Said:
    assert isinstance(started, dict)
    kinds = {"text": ("text_delta", "text"), "tool_use": ("input_json_delta", "partial_json")}
    kind, member = kinds[started["type"]]
    parts = [delta[member] for delta in deltas if isinstance(delta, dict) and delta["type"] == kind]
    assert len(parts) == len(deltas)
    return "".join(parts) if kind == "text_delta" else (started["name"], "".join(parts))


@settings(deadline=None)
@given(said_lists, st.integers(1, 6))
def test_an_openai_stream_begins_each_call_with_its_id_and_name(said: list[Said], cut: int) -> None:
    events = map(ChatCompletionChunk.model_validate, values(stream(openai(), final(), steps_of(said, cut))))
    choices = [choice for event in events for choice in event.choices]
    calls: list[tuple[str, str]] = []
    for delta in [call for choice in choices for call in choice.delta.tool_calls or []]:
        assert delta.function is not None
        if delta.id is not None:
            assert delta.index == len(calls)
            calls.append((delta.function.name or "", ""))
        calls[delta.index] = (calls[delta.index][0], calls[delta.index][1] + (delta.function.arguments or ""))
    assert calls == [one for one in said if not isinstance(one, str)]
    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == "".join(one for one in said if isinstance(one, str))
    assert choices[-1].finish_reason == ("tool_calls" if calls else "stop")

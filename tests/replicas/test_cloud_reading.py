"""What no upstream plays: bytes cut anywhere, calls tangled in every way, services that are only nearly compatible."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.cloud.calls import CallOrder, Fragment
from replicas.cloud.completions import CompletionsReader
from replicas.cloud.errors import CloudBroken, CloudBusy, CloudError
from replicas.cloud.messages import MessagesReader
from replicas.cloud.sse import EVENT_LIMIT_BYTES, Event, EventParser
from replicas.engine import CallPiece, Chunk, Finish, Usage
from tests.replicas.clouds import Got

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "ping", "delta"]), st.lists(TEXTS, min_size=1)), max_size=5), st.data())
def test_events_are_the_same_however_their_bytes_are_cut(
    events: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    raw = b""
    for name, lines in events:
        told = [f"event: {name}"] * bool(name) + [": a comment"] + [f"data: {line}" for line in lines]
        raw += (end.join(told) + end * 2).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    parser = EventParser()
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = [event for part in [*parts, b"\n"] for event in parser.feed(part)]
    assert found == [Event(name, "\n".join(lines)) for name, lines in events]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    parser = EventParser()
    for _ in range(16):
        parser.feed(b"x" * (EVENT_LIMIT_BYTES // 16))
    with pytest.raises(ValueError, match="too large"):
        parser.feed(b"x")


def told(pieces: list[CallPiece]) -> list[tuple[str, str]]:
    """Names and arguments; fails if the pieces of one call are not together."""
    got = Got([Chunk("x", "", 0, call=piece) for piece in pieces])
    return [(name, json.dumps(arguments)) for name, arguments in got.calls]


JSONS = st.dictionaries(st.text(max_size=3), st.recursive(st.text(max_size=5) | st.integers(), st.lists, max_leaves=3))


@settings(deadline=None)
@given(st.lists(JSONS, min_size=1, max_size=4), st.booleans(), st.data())
def test_calls_come_out_whole_however_they_are_tangled(
    inputs: list[dict[str, object]], has_ids: bool, data: st.DataObject
) -> None:
    waiting: dict[int, list[str]] = {}
    for i, value in enumerate(inputs):
        written = json.dumps(value)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=3)))
        waiting[i] = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    order, pieces = CallOrder(), []
    begun: set[int] = set()
    while waiting:
        i = data.draw(st.sampled_from([i for i in waiting if i in begun or i == len(begun)]))
        name = f"tool{i}" if i not in begun or (has_ids and data.draw(st.booleans())) else ""
        begun.add(i)
        pieces += order.take(Fragment(i, f"id{i}" if has_ids else "", name, waiting[i].pop(0)))
        waiting = {key: parts for key, parts in waiting.items() if parts}
    pieces += order.end()
    assert told(pieces) == [(f"tool{i}", json.dumps(value)) for i, value in enumerate(inputs)]


@pytest.mark.parametrize(
    "fragments",
    [
        [Fragment(0, "a", "f", '{"n":1}'), Fragment(0, "b", "g", '{"n":2}')],  # one index for all, an id each
        [Fragment(None, "a", "f", '{"n":1}'), Fragment(None, "b", "g", '{"n":2}')],  # no index
        [Fragment(None, "a", "f", ""), Fragment(None, "", "", '{"n":1}'), Fragment(None, "b", "g", '{"n":2}')],
        [Fragment(0, "", "f", '{"n":1}'), Fragment(0, "", "g", '{"n":2}')],  # no ids, one index
        [Fragment(0, "a", "f", '{"n'), Fragment(0, "z", "", '":1}'), Fragment(1, "b", "g", '{"n":2}')],  # ids anew
        [Fragment(0, "a", "f", '{"n":1}'), Fragment(0, "a", "f", '{"n":1}'), Fragment(1, "b", "g", '{"n":2}')],
        [Fragment(1, "a", "f", '{"n":1}  '), Fragment(2, "b", "g", '{"n":2}')],  # counted from 1
    ],
)
def test_services_that_number_their_calls_badly_are_understood(fragments: list[Fragment]) -> None:
    order = CallOrder()
    pieces = [piece for fragment in fragments for piece in order.take(fragment)]
    assert told([*pieces, *order.end()]) == [("f", '{"n": 1}'), ("g", '{"n": 2}')]


def completion(*deltas: Mapping[str, object], finish: str | None = "stop", usage: object = None) -> Got:
    """What a streamed chat completion of these deltas comes to."""
    reader, got = CompletionsReader("far", "x"), Got()
    chunks: list[object] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage})
    try:
        for chunk in chunks:
            got.chunks += reader.event(Event("", json.dumps(chunk)))
        got.chunks += reader.end()
    except CloudError as error:
        got.error = error
    got.spent = reader.spent
    return got


def test_the_first_piece_of_text_may_come_with_the_role() -> None:
    assert completion({"role": "assistant", "content": "He"}, {"content": "llo"}).text == "Hello"


@pytest.mark.parametrize("empty", [{"content": None}, {"tool_calls": None}, {"tool_calls": []}, {"refusal": None}, {}])
def test_null_and_empty_members_say_nothing(empty: dict[str, object]) -> None:
    got = completion({"role": "assistant", **empty}, {**empty, "content": "hi"}, empty)
    assert (got.text, got.calls, got.natives) == ("hi", [], [])


def test_text_within_a_call_waits_for_its_end() -> None:
    begun = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"n":'}}]}
    ended = {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}
    got = completion(begun, {"content": "so"}, ended)
    assert (got.calls, got.text) == ([("f", {"n": 1})], "so")
    assert [bool(chunk.text) for chunk in got.chunks] == [False, False, True, False]


def test_a_refusal_is_text_that_ends_refused() -> None:
    got = completion({"refusal": "I will "}, {"refusal": "not."})
    assert (got.text, got.final.finish) == ("I will not.", Finish.REFUSED)
    assert [json.loads(piece.json) for piece in got.natives] == [{"refusal": "I will "}, {"refusal": "not."}]


def test_an_older_function_call_is_a_call() -> None:
    got = completion({"function_call": {"name": "f", "arguments": '{"n":'}}, {"function_call": {"arguments": "1}"}})
    assert got.calls == [("f", {"n": 1})]


def test_reasoning_beside_text_is_told_apart() -> None:
    got = completion({"reasoning_content": "hm", "content": "so"})
    assert ([json.loads(piece.json) for piece in got.natives], got.text) == ([{"reasoning_content": "hm"}], "so")


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(7, 2, 7)),
        ({"prompt_tokens": -7, "completion_tokens": "2"}, Usage(0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(7, 2)),
    ],
)
def test_counts_that_cannot_be_are_bounded(usage: object, known: Usage) -> None:
    assert completion({"content": "hi"}, usage=usage).spent.usage == known


@pytest.mark.parametrize(
    ("usage", "is_settled"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 0}, True),
        ({"prompt_tokens": 7.0, "completion_tokens": 2.0}, True),
        ({"cost": 0.01}, True),
        ({}, False),
        ({"total_tokens": 9}, False),
        ({"prompt_tokens": 7}, False),
        ({"completion_tokens": 2}, False),
        ({"prompt_tokens": "7", "completion_tokens": "2"}, False),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, False),
        ({"prompt_tokens": 7, "completion_tokens": 10**30}, False),
        ({"prompt_tokens": 7.5, "completion_tokens": 2}, False),
        ({"cost": 1e300}, False),
    ],
)
def test_a_count_that_is_none_settles_nothing(usage: object, *, is_settled: bool) -> None:
    assert completion({"content": "hi"}, usage=usage).spent.is_settled is is_settled


def test_a_count_before_the_end_settles_nothing() -> None:
    reader = CompletionsReader("far", "id")
    piece = {
        "choices": [{"index": 0, "delta": {"content": "hi"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }
    reader.event(Event("", json.dumps(piece)))
    assert (reader.spent.usage, reader.spent.is_settled) == (Usage(7, 1), False)


@pytest.mark.parametrize("finish", [None, "", "error"])
def test_an_answer_that_does_not_say_why_it_ended_broke_off(finish: str | None) -> None:
    assert isinstance(completion({"content": "hi"}, finish=finish).error, CloudBroken)


def test_a_call_that_nobody_named_is_no_answer() -> None:
    assert isinstance(completion({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}).error, CloudBroken)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "slow down", "code": 429}}, CloudBusy),
        ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, CloudBusy),
        ({"error": "it broke"}, CloudBroken),
        ({"error": {"message": {"odd": 1}, "code": True}}, CloudBroken),
    ],
)
def test_an_error_inside_a_stream_is_an_error_and_no_empty_answer(error: object, kind: type[CloudError]) -> None:
    with pytest.raises(kind):
        CompletionsReader("far", "x").event(Event("", json.dumps(error)))


READERS = pytest.mark.parametrize("reader", [CompletionsReader, MessagesReader])
NAMES = (
    "type index delta message content usage choices error content_block tool_calls function arguments name text "
    "finish_reason stop_reason input logprobs code"
)
WORDS = ["message_delta", "content_block_start", "content_block_delta", "text_delta", "tool_use"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner),
    max_leaves=12,
)


@READERS
@settings(deadline=None)
@given(values=st.lists(VALUES, max_size=4), is_whole=st.booleans())
def test_whatever_json_comes_the_end_is_chunks_or_an_error(
    reader: type[CompletionsReader] | type[MessagesReader], values: list[object], is_whole: bool
) -> None:
    read = reader("far", "x")
    try:
        for value in values:
            data = json.dumps(value)
            chunks = read.whole(data.encode()) if is_whole else read.event(Event("", data))
            assert all(chunk.final is None for chunk in chunks)
        assert read.end()[-1].final is not None
    except CloudError:
        pass


def test_a_block_whose_input_came_at_once_is_whole() -> None:
    reader = MessagesReader("far", "x")
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1}}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
    got = Got([chunk for event in events for chunk in reader.event(Event("", json.dumps(event)))])
    assert got.calls == [("f", {"n": 1})]


def test_blocks_of_tools_that_the_cloud_runs_come_along_with_their_pieces() -> None:
    reader = MessagesReader("far", "x")
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"query":"x"}'}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
    ]
    got = Got([chunk for event in events for chunk in reader.event(Event("", json.dumps(event)))])
    assert [piece.part for piece in got.natives] == ["begin", "delta", "end"]
    assert [json.loads(piece.json) for piece in got.natives[:2]] == [block, delta]
    assert got.calls == []


def test_a_delta_of_no_block_breaks_the_answer() -> None:
    delta = {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}}
    with pytest.raises(CloudBroken):
        MessagesReader("far", "x").event(Event("", json.dumps(delta)))

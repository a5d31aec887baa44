"""Clouds answer in chunks: text, calls, thinking, counts and costs, whole and streamed, by the real protocols."""

import asyncio
import json
from pathlib import Path

import pytest

from cluster.upstream.tokens import count
from replicas.cloud.answer import Spent
from replicas.cloud.release import CloudKind
from replicas.engine import Finish, Usage
from replicas.errors import Unavailable
from tests.cluster.upstream.played import QUESTION, playing
from tests.replicas.clouds import KEY, KINDS, PATHS, ROUTER, asked, cleared, cloud, endpoint, question, told

USED = Usage(count(QUESTION), count(QUESTION))
FORMS = pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "whole"])
BOTH = pytest.mark.parametrize("kind", KINDS)

TOOLS: dict[CloudKind, list[object]] = {
    "anthropic": [{"name": name, "input_schema": {"type": "object"}} for name in ("look", "count", "stop")],
    "openai": [{"type": "function", "function": {"name": name}} for name in ("look", "count", "stop")],
}
CALLS = """
answers: [{text: "I look.", calls: [
  {name: look, input: {place: "north {of} \\"here\\"", deep: {a: [1, 2]}}}, {name: stop, input: {}},
  {name: count, input: {n: 3}}]}]
"""
CALLED = [("look", {"place": 'north {of} "here"', "deep": {"a": [1, 2]}}), ("stop", {}), ("count", {"n": 3})]


@BOTH
@FORMS
def test_an_answer_comes_in_chunks_and_ends_with_what_it_used(kind: CloudKind, is_stream: bool) -> None:
    got = told(kind, is_stream=is_stream)
    assert (got.text, got.final.finish, got.final.model) == (QUESTION, Finish.END, "test")
    assert got.final.usage == got.spent.usage == USED
    assert got.spent.is_settled
    assert (got.chunks[0].text, got.chunks[0].final) == ("", None)
    assert {chunk.id for chunk in got.chunks} == {"x"}
    assert not is_stream or len(got.chunks) > 8


@BOTH
@FORMS
def test_calls_come_whole_and_in_order(kind: CloudKind, is_stream: bool) -> None:
    got = told(kind, CALLS, is_stream=is_stream, tools=TOOLS[kind])
    assert (got.text, got.calls, got.final.finish) == ("I look.", CALLED, Finish.END)


@pytest.mark.parametrize(
    "quirk",
    ["empty_calls", "whole_arguments", "object_arguments", "stop_with_calls", "interleaved_calls", "duplicates"],
)
@BOTH
@FORMS
def test_quirks_of_calls_change_nothing(kind: CloudKind, is_stream: bool, quirk: str) -> None:
    got = told(kind, f"{CALLS}\nfaults: [{quirk}]", is_stream=is_stream, tools=TOOLS[kind])
    assert (got.text, got.calls, got.final.finish) == ("I look.", CALLED, Finish.END)


@BOTH
@pytest.mark.parametrize("fault", ["duplicates", "wrong_content_type", "empty_calls"])
def test_a_stream_that_is_only_odd_is_read_as_it_is_meant(kind: CloudKind, fault: str) -> None:
    got = told(kind, f"faults: [{fault}]")
    assert (got.text, got.final.usage) == (QUESTION, USED)


@FORMS
def test_thinking_comes_along_in_the_clouds_own_words(is_stream: bool) -> None:
    got = told("anthropic", is_stream=is_stream, thinking={"type": "enabled", "budget_tokens": 1024})
    thought = "".join(
        value.get("thinking", "") for piece in got.natives if piece.json for value in [json.loads(piece.json)]
    )
    assert thought == f"The question is: {QUESTION}"
    assert (got.natives[0].part, got.natives[-1].part) == ("begin", "end")
    assert any("signature" in piece.json and not piece.json.endswith('"signature":""}') for piece in got.natives)
    assert got.text == QUESTION


@FORMS
def test_openrouter_tells_its_reasoning_and_the_settled_cost(is_stream: bool) -> None:
    script = "models: [{id: test, price: {input: 1000000, output: 2000000}}]"
    got = told("openai", script, is_stream=is_stream, path=ROUTER, reasoning={"effort": "low"})
    thought = "".join(json.loads(piece.json).get("reasoning", "") for piece in got.natives)
    assert thought == f"The question is: {QUESTION}"
    assert got.text == QUESTION
    used = got.spent.usage
    assert got.spent.cost_usd == used.prompt + 2 * used.generated


@BOTH
@FORMS
def test_what_a_cache_gave_is_told_apart(kind: CloudKind, is_stream: bool) -> None:
    got = told(kind, "answers: [{text: hi, cache: {read_tokens: 3, write_tokens: 2}}]", is_stream=is_stream)
    assert got.spent == Spent(Usage(USED.prompt, 1, 3), cache_write=2 if kind == "anthropic" else 0, is_settled=True)


@BOTH
@FORMS
@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", Finish.END),
        ("max_tokens", Finish.LENGTH),
        ("refusal", Finish.REFUSED),
        ("model_context_window_exceeded", Finish.CONTEXT),
    ],
)
def test_every_way_to_end_has_its_word(kind: CloudKind, is_stream: bool, stop: str, finish: Finish) -> None:
    got = told(kind, f"answers: [{{text: nope, stop: {stop}}}]", is_stream=is_stream)
    expected = Finish.LENGTH if kind == "openai" and finish is Finish.CONTEXT else finish
    assert (got.final.finish, got.text) == (expected, "nope")


@FORMS
def test_the_stop_string_that_came_up_is_named(is_stream: bool) -> None:
    got = told("anthropic", is_stream=is_stream, stop_sequences=["seas"])
    assert (got.final.finish, got.final.stop_sequence) == (Finish.STOP, "seas")


@FORMS
def test_scores_of_tokens_come_along(is_stream: bool) -> None:
    got = told("openai", is_stream=is_stream, logprobs=True, top_logprobs=2)
    scores = [score for chunk in got.chunks for score in chunk.scores]
    assert b"".join(score.chosen.bytes_ for score in scores).decode() == QUESTION
    assert {len(score.top) for score in scores} == {2}
    assert (got.final.mean_logprob, got.final.min_logprob) == (-0.125, -0.125)


@BOTH
@FORMS
def test_without_counts_an_answer_is_not_settled(kind: CloudKind, is_stream: bool) -> None:
    got = told(kind, "faults: [no_usage]", is_stream=is_stream)
    assert (got.text, got.spent.is_settled) == (QUESTION, False)
    assert got.spent.usage.generated == (9 if is_stream else 1)


@BOTH
def test_what_leaves_is_the_cleared_body_to_the_byte_and_the_key(kind: CloudKind) -> None:
    with playing() as played:
        sent = cleared(kind, question(kind), headers=(("anthropic-beta", "one,two"),))
        asyncio.run(asked(kind, sent, endpoint(played.url + PATHS[kind])))
        (entry,) = played.ended()
    assert entry.body == sent.draft.body
    assert KEY in (entry.headers.get("x-api-key"), entry.headers.get("authorization", "").removeprefix("Bearer "))
    assert entry.headers["anthropic-beta"] == "one,two"


@BOTH
def test_a_cloud_whose_key_is_not_there_says_which_variable_to_set(kind: CloudKind) -> None:
    with pytest.raises(Unavailable, match="set FAR_KEY to its key"):
        cloud(kind, endpoint("http://127.0.0.1:9"), {"OTHER_KEY": KEY})


@pytest.mark.parametrize("kind", KINDS)
def test_what_netrc_has_for_a_host_is_not_sent_where_there_is_a_proxy(
    kind: CloudKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login somebody password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert told(kind).text == QUESTION

"""What a cloud gets of a body, in either dialect, and what the caller gets of the cloud's answer."""

import asyncio
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.upstream.anthropic import reading as anthropic_reading
from cluster.upstream.asked import Asked, Dialect
from cluster.upstream.openai import reading as openai_reading
from replicas.cloud.release import CloudKind, release
from replicas.errors import InvalidRequest
from router.anthropic import AnthropicDialect
from router.openai.dialect import OpenAIDialect
from router.privacy.guard import Guard, Marking
from router.translate.draft import Target, drafted
from router.translate.source import Source
from tests.cluster.upstream.played import QUESTION, playing
from tests.replicas.clouds import KINDS, PATHS, endpoint
from tests.replicas.clouds import asked as ask
from tests.router.translations import BODIES, GOLDEN, PRODUCERS, SCHEMA, Body, said, sent, source

WAYS = pytest.mark.parametrize(("kind", "to"), [(kind, to) for kind in KINDS for to in KINDS])
ACROSS: list[tuple[CloudKind, CloudKind]] = [("anthropic", "openai"), ("openai", "anthropic")]


def read(to: CloudKind, body: Body) -> Asked:
    """What the upstream makes of a body; raises what a cloud would answer."""
    return anthropic_reading.read(body) if to == "anthropic" else openai_reading.read(body, Dialect.OPENAI)


@pytest.mark.parametrize("name", PRODUCERS)
def test_what_is_sent_is_what_the_golden_file_has(name: str) -> None:
    assert PRODUCERS[name]() == json.loads((GOLDEN / name).read_text("utf-8"))


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(PRODUCERS)


def test_in_the_callers_own_dialect_all_goes_out_as_it_came_but_for_the_model() -> None:
    assert sent("anthropic", "anthropic") == BODIES["anthropic"] | {"model": "large"}
    usage = {"stream_options": {"include_usage": True}}
    assert sent("openai", "openai") == BODIES["openai"] | {"model": "large"} | usage


def test_members_that_only_we_know_do_not_reach_a_cloud_that_refuses_them() -> None:
    ours: Body = {"seed": 1, "min_tokens": 0, "ignore_eos": False, "repetition_penalty": 1, "guided_json": SCHEMA}
    body = sent("anthropic", "anthropic", output_config=None, thinking=None, **ours)
    assert not set(ours) & set(body)
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}}
    }
    assert read("anthropic", body).schema is not None


LOST: Body = {
    "min_p": 0.1,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": 1},
    "min_tokens": 2,
    "ignore_eos": True,
    "stop_token_ids": [3],
    "include_stop_str_in_output": True,
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize(("kind", "to"), [*ACROSS, ("anthropic", "anthropic")])
def test_what_a_cloud_has_no_word_for_is_refused_and_never_dropped(kind: CloudKind, to: CloudKind, name: str) -> None:
    if to == "openai" and name in ("frequency_penalty", "presence_penalty", "logit_bias"):
        assert sent(kind, to, **{name: LOST[name]})[name] == LOST[name]
        return
    with pytest.raises(InvalidRequest, match="has no word for it") as refused:
        sent(kind, to, **{name: LOST[name]})
    assert refused.value.param == name


def test_scores_of_tokens_are_asked_of_clouds_that_have_them() -> None:
    with pytest.raises(InvalidRequest, match="logprobs: this cloud"):
        sent("openai", "anthropic", logprobs=True)
    assert sent("openai", "openai", logprobs=True)["logprobs"] is True


def bare(prompt: object, to: CloudKind = "openai") -> Body:
    """What a cloud would get of a completion that goes on from `prompt`."""
    raw = json.dumps({"model": "small", "prompt": prompt, "echo": True, "stream": True}).encode()
    draft = drafted(Source.of("openai", raw, {}, "completions"), Target(to, "large"), "x", 1.0)
    assert draft.asking == "completions"
    body: Body = json.loads(draft.body)
    return body


def test_a_bare_text_goes_out_as_it_is_and_is_said_again_here_alone() -> None:
    expected = {"model": "large", "prompt": "Once", "stream": True, "stream_options": {"include_usage": True}}
    assert bare("Once") == expected
    assert bare(["Once"]) == expected | {"prompt": ["Once"]}


@pytest.mark.parametrize(("prompt", "to"), [([1, 2], "openai"), ([[1]], "openai"), ("Once", "anthropic")])
def test_token_ids_stay_here_and_a_cloud_that_only_talks_goes_on_from_nothing(prompt: object, to: CloudKind) -> None:
    with pytest.raises(InvalidRequest) as refused:
        bare(prompt, to)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize(("kind", "to"), ACROSS)
def test_a_cloud_of_the_other_dialect_takes_every_part_of_a_body(kind: CloudKind, to: CloudKind) -> None:
    asked = read(to, sent(kind, to))
    assert [tool.name for tool in asked.tools] == ["weather", "clock"]
    assert asked.forced is not None
    assert asked.schema is not None
    assert (asked.stops, asked.max_tokens, asked.is_stream, asked.is_usage_wanted) == (("END",), 500, True, True)
    assert asked.media_tokens == 1500 * (4 if kind == "anthropic" else 3)


def test_only_headers_that_change_the_meaning_go_along_and_only_to_the_same_dialect() -> None:
    drafts = {(kind, to): drafted(source(kind), Target(to, "m"), "x", 1.0).headers for kind in KINDS for to in KINDS}
    beta = (("anthropic-beta", "one"),)
    assert {way for way, headers in drafts.items() if headers} == {("anthropic", "anthropic")}
    assert drafts["anthropic", "anthropic"] == beta


def test_who_somebody_is_stays_here_when_a_body_is_translated() -> None:
    for kind, to in ACROSS:
        assert "somebody" not in json.dumps(sent(kind, to))


@pytest.mark.parametrize("form", [{"guided_regex": "a+"}, {"structured_outputs": {"grammar": 'start: "a"'}}])
@pytest.mark.parametrize(("kind", "to"), [*ACROSS, ("anthropic", "anthropic")])
def test_a_form_that_no_cloud_can_be_held_to_is_refused(kind: CloudKind, to: CloudKind, form: Body) -> None:
    with pytest.raises(InvalidRequest, match="send this to a local model"):
        sent(kind, to, **form, output_config=None, response_format=None)


def test_a_schema_that_is_closed_and_complete_is_strict() -> None:
    closed = {**SCHEMA, "additionalProperties": False}
    nested = {**closed, "properties": {"n": {"type": "object", "properties": {}}}}
    told = [
        sent("anthropic", "openai", output_config={"format": {"type": "json_schema", "schema": schema}})
        for schema in (closed, SCHEMA, nested, {**closed, "required": []})
    ]
    formats = [body["response_format"] for body in told]
    assert [json.dumps(form).count('"strict": true') for form in formats] == [1, 0, 0, 0]


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body = sent("openai", "anthropic", response_format={"type": "json_object"})
    assert "output_config" not in body
    assert str(body["system"]).endswith("one JSON object and nothing else.")


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([{"role": "system", "content": "Go."}], ["user"]),
        ([{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Ho"}], ["user", "assistant", "user"]),
        ([{"role": "user", "content": "  "}, {"role": "user", "content": [said("Ho")]}], ["user"]),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": [said("b")]}], ["user", "assistant"]),
    ],
)
def test_a_conversation_always_has_a_user_who_begins(messages: list[Body], roles: list[str]) -> None:
    body = sent("openai", "anthropic", messages=messages)
    turns = body["messages"]
    assert isinstance(turns, list)
    assert [turn["role"] for turn in turns] == roles
    read("anthropic", body)


def test_temperature_and_top_p_do_not_go_together() -> None:
    assert "top_p" not in sent("openai", "anthropic")
    assert sent("openai", "anthropic", temperature=None)["top_p"] == 0.9


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("auto", None),
        ({"type": "function", "function": {"name": "clock"}}, {"type": "tool", "name": "clock"}),
    ],
)
def test_each_choice_among_tools_has_its_word(choice: object, told: object) -> None:
    body = sent("openai", "anthropic", tool_choice=choice, parallel_tool_calls=None)
    assert body.get("tool_choice") == told


def test_a_choice_of_some_tools_offers_only_those() -> None:
    tools = [{"type": "function", "function": {"name": "clock"}}]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    body = sent("openai", "anthropic", tool_choice=allowed, parallel_tool_calls=None)
    assert [tool.name for tool in read("anthropic", body).tools] == ["clock"]
    assert body["tool_choice"] == {"type": "any"}


def test_tools_that_a_cloud_runs_itself_are_left_out_and_the_choice_of_one_too() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    body = sent("anthropic", "openai", tools=tools, tool_choice={"type": "tool", "name": "web_search"})
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_calls_and_results_without_ids_find_each_other() -> None:
    called = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "function_call": {"name": "clock", "arguments": "{}"}},
        {"role": "function", "name": "clock", "content": "one"},
        {"role": "assistant", "function_call": {"name": "clock", "arguments": "{}"}},
        {"role": "function", "name": "clock", "content": "two"},
        {"role": "user", "content": QUESTION},
    ]
    body = sent("openai", "anthropic", messages=called)
    assert read("anthropic", body).question.endswith(QUESTION)
    assert json.dumps(body).count('"unnamed_1"') == json.dumps(body).count('"unnamed_2"') == 2


TEXT = st.sampled_from(["", " ", "a", "Zürich", "x  "])
CONTENT = st.none() | TEXT | st.lists(st.builds(said, TEXT), max_size=2)
TURN = st.tuples(st.sampled_from(["user", "assistant", "system", "call"]), CONTENT, st.integers(1, 2))


def chat(turns: list[tuple[str, object, int]]) -> list[Body]:
    """A chat in which every call has its result."""
    found: list[Body] = []
    for at, (role, content, count) in enumerate(turns):
        if role != "call":
            found.append({"role": role, "content": content if content is not None or role == "assistant" else ""})
            continue
        ids = [f"call{at}_{i}" for i in range(count)]
        function = {"name": "clock", "arguments": "{}"}
        calls = [{"id": id_, "type": "function", "function": function} for id_ in ids]
        found.append({"role": "assistant", "content": content, "tool_calls": calls})
        found += [{"role": "tool", "tool_call_id": id_, "content": content or ""} for id_ in ids]
    return found


@settings(deadline=None)
@given(st.lists(TURN, max_size=6))
def test_any_chat_becomes_a_conversation_that_anthropic_takes(turns: list[tuple[str, object, int]]) -> None:
    messages = [{"role": "user", "content": "?"}, *chat(turns)]
    asked = read("anthropic", sent("openai", "anthropic", messages=messages))
    assert all(tool.name in ("weather", "clock") for tool in asked.tools)


@settings(deadline=None)
@given(st.lists(TURN, max_size=6))
def test_there_and_back_a_chat_is_one_that_openai_takes(turns: list[tuple[str, object, int]]) -> None:
    messages = [{"role": "user", "content": "?"}, *chat(turns)]
    there = sent("openai", "anthropic", messages=messages)
    back = Source.of("anthropic", json.dumps(there).encode(), {})
    body: Body = json.loads(drafted(back, Target("openai", "m"), "x", 1.0).body)
    assert read("openai", body).prompt.count("clock") >= sum(count for role, _, count in turns if role == "call")


TOOLS: dict[CloudKind, object] = {
    "anthropic": [{"name": "look", "input_schema": {"type": "object"}}],
    "openai": [{"type": "function", "function": {"name": "look"}}],
}
ANSWER = 'answers: [{text: "I look.", calls: [{name: look, input: {at: 1}}, {name: look, input: {at: 2}}]}]'


def through(kind: CloudKind, to: CloudKind, script: str, body: Mapping[str, object]) -> bytes:
    """The whole way: a body in, translated, cleared, sent, answered, and the answer worded for the caller."""
    raw = json.dumps(body).encode()
    dialect = AnthropicDialect("m") if kind == "anthropic" else OpenAIDialect("m")
    exchange = dialect.parse(raw, {})
    draft = drafted(Source.of(kind, raw, {}), Target(to, "large"), exchange.call.id, 30.0)
    cleared = release(draft, Guard().clear(draft, Marking(draft.id)))
    with playing(script) as played:
        got = asyncio.run(ask(to, cleared, endpoint(played.url + PATHS[to])))
    assert got.error is None
    return exchange.reply.begin(1) + b"".join(exchange.reply.feed([chunk]) for chunk in got.chunks)


@WAYS
@pytest.mark.parametrize("quirk", ["", "interleaved_calls", "object_arguments", "stop_with_calls", "empty_calls"])
def test_text_and_calls_come_back_in_the_callers_dialect(kind: CloudKind, to: CloudKind, quirk: str) -> None:
    body = {
        "model": "m",
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "user", "content": QUESTION}],
        "tools": TOOLS[kind],
    }
    raw = through(kind, to, f"{ANSWER}\nfaults: [{quirk}]" if quirk else ANSWER, body)
    events = [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")]
    assert told(kind, events) == ("I look.", [{"at": 1}, {"at": 2}])
    assert ('"tool_use","stop_sequence"' if kind == "anthropic" else '"finish_reason":"tool_calls"') in raw.decode()


def told(kind: CloudKind, events: list[Body]) -> tuple[str, list[object]]:
    """The text and the arguments of the calls in the events of a stream."""
    text, calls = "", dict[int, str]()
    for event in events:
        raw = json.dumps(event)
        if kind == "anthropic":
            delta, index = event.get("delta"), event.get("index")
            pieces = [(index, delta.get("partial_json", ""))] if isinstance(delta, dict) else []
        else:
            choices = event["choices"]
            delta = choices[0]["delta"] if isinstance(choices, list) and choices else {}
            pieces = [(call["index"], call["function"]["arguments"]) for call in delta.get("tool_calls", [])]
        assert isinstance(delta, dict | None), raw
        text += (delta or {}).get("text") or (delta or {}).get("content") or ""
        for index, piece in pieces:
            assert not piece or not calls or index in (max(calls), max(calls) + 1)
            if piece and isinstance(index, int):
                calls[index] = calls.get(index, "") + piece
    return text, [json.loads(calls[index]) for index in sorted(calls)]

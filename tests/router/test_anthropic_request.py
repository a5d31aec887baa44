"""What a Messages body becomes."""

import json

import pytest

from replicas.engine import Grammar, Message, Sampling, ToolCall
from replicas.errors import InvalidRequest
from router.anthropic import AnthropicDialect, parse_count
from router.call import Call
from tests.router.exchanges import anthropic, body


def parse(headers: dict[str, str] | None = None, /, **changes: object) -> Call:
    return anthropic().parse(body(**changes), headers or {}).call


def user(content: object) -> str:
    """The text of a lone user turn with `content`."""
    (message,) = parse(messages=[{"role": "user", "content": content}]).messages
    assert message.role == "user"
    return message.content


def text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def test_a_plain_request_becomes_a_call_with_the_defaults_of_the_real_api() -> None:
    call = parse()
    assert call == Call(
        id="msg_0001",
        model="claude-local-smol",
        messages=(Message("user", "Say hello"),),
        sampling=Sampling(max_tokens=16, temperature=1.0),
    )


def test_every_sampling_field_arrives() -> None:
    call = parse(
        stop_sequences=["\n\nHuman:", "END"],
        stream=True,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=-7,
        repetition_penalty=1.1,
        min_tokens=2,
        ignore_eos=True,
    )
    assert call.is_stream
    assert call.sampling == Sampling(16, 0.5, 0.9, 40, 1.1, 2, True, ("\n\nHuman:", "END"), -7)


def test_null_means_absent() -> None:
    nulls = dict.fromkeys(("system", "stop_sequences", "stream", "temperature", "top_p", "top_k", "seed", "metadata"))
    raw = json.dumps({**json.loads(body()), **nulls}).encode()
    assert anthropic().parse(raw, {}).call == parse()


def test_a_temperature_that_would_overflow_the_logits_is_greedy() -> None:
    assert parse(temperature=1e-300).sampling.temperature == 0.0


def test_counts_beyond_int32_are_clamped_and_not_refused() -> None:
    sampling = parse(max_tokens=10**30, top_k=10**30).sampling
    assert (sampling.max_tokens, sampling.top_k) == (2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize("system", ["Be kind.", [text("Be kind.")], [text("Be"), text("kind.")]])
def test_system_is_the_first_message(system: object) -> None:
    first, second = parse(system=system).messages
    assert (first.role, first.content.split()) == ("system", ["Be", "kind."])
    assert second.role == "user"


def test_the_billing_header_block_is_dropped_because_it_changes_with_every_request() -> None:
    header = text("x-anthropic-billing-header: cc_version=2.1; cch=00000;")
    assert parse(system=[header, text("Be kind.")]).messages[0] == Message("system", "Be kind.")
    assert parse(system=[header]).messages == parse().messages
    assert "x-anthropic" in parse(system=[text("first"), header]).messages[0].content


def test_a_system_turn_in_the_middle_keeps_its_place() -> None:
    turns = [("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")]
    call = parse(messages=[{"role": role, "content": content} for role, content in turns])
    assert [(m.role, m.content) for m in call.messages] == turns


def test_neighbours_of_one_role_are_merged() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": [text("b")]}]
    assert parse(messages=turns).messages == (Message("user", "a\n\nb"),)


def test_a_trailing_assistant_turn_stays_as_the_prefill_unless_it_is_empty() -> None:
    asked = {"role": "user", "content": "a"}
    assert parse(messages=[asked, {"role": "assistant", "content": "{"}]).messages[-1] == Message("assistant", "{")
    nothings: list[object] = ["", None, []]
    for nothing in nothings:
        assert parse(messages=[asked, {"role": "assistant", "content": nothing}]).messages == (Message("user", "a"),)


def test_an_empty_user_turn_is_a_turn() -> None:
    assert user("") == ""


@pytest.mark.parametrize("content", [None, [], [{"type": "thinking", "thinking": "hm"}]])
def test_a_conversation_without_any_text_is_refused(content: object) -> None:
    with pytest.raises(InvalidRequest, match="messages: at least one message needs text"):
        user(content)


def test_tool_calls_and_results_keep_their_structure() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "K\u00f6ln"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("12 C")]}
    failed = {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": True}
    silent = {"type": "tool_result", "tool_use_id": "toolu_3"}
    messages = [{"role": "assistant", "content": [text("I look."), call]}]
    messages.append({"role": "user", "content": [text("Here:"), result, failed, silent, text("So?")]})
    assert parse(messages=messages).messages == (
        Message("assistant", "I look.", (ToolCall("toolu_1", "weather", '{"city": "K\u00f6ln"}'),)),
        Message("user", "Here:"),
        Message("tool", "12 C", tool_call_id="toolu_1", tool_name="weather"),
        Message("tool", "no such city", tool_call_id="toolu_2", is_error=True),
        Message("tool", "", tool_call_id="toolu_3"),
        Message("user", "So?"),
    )


def test_calls_and_results_in_the_wrong_turn_are_text() -> None:
    assert user([{"type": "tool_use", "name": "f", "input": {"a": 1}}]) == '[tool call f {"a": 1}]'
    result = {"type": "tool_result", "content": [text("12 C")]}
    (said,) = parse(messages=[{"role": "assistant", "content": [result]}]).messages
    assert said.content == "[tool result]\n12 C"


def test_what_a_text_model_cannot_see_becomes_a_note() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    pdf = {"type": "document", "title": "a.pdf", "source": {"type": "base64", "data": "AAAA"}}
    assert user([image]) == "[image: not readable by this text model]"
    assert user([pdf]) == "[document 'a.pdf': not readable by this text model]"


def test_the_text_of_documents_and_search_results_is_read() -> None:
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    blocks = {"type": "document", "source": {"type": "content", "content": [text("one"), text("two")]}}
    found = {"type": "search_result", "title": "T", "source": "https://a.example", "content": [text("words")]}
    assert user([plain]) == "T\nwords"
    assert user([blocks]) == "one\ntwo"
    assert user([found]) == "T\nhttps://a.example\nwords"


def test_unknown_blocks_give_their_text_or_nothing() -> None:
    assert user([{"type": "novelty", "text": "a"}, {"type": "new", "content": [text("b")]}, {"type": "x"}]) == "a\nb"
    assert user([{"type": "novelty", "content": {"not": "content"}}, text("a")]) == "a"


def test_thinking_is_dropped() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    assert user([*blocks, text("a")]) == "a"


def test_blocks_nested_beyond_reason_are_cut_off() -> None:
    content: object = "deep"
    for _ in range(40):
        content = [{"type": "new", "content": content}]
    assert "deep" not in user([text("a"), {"type": "new", "content": content}])


def test_what_local_models_cannot_do_is_accepted_and_ignored() -> None:
    extra: dict[str, object] = {
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "context_management": {"edits": []},
        "service_tier": "auto",
        "novelty": [1, {"a": None}],
    }
    assert parse(**extra) == parse()


def test_the_form_of_the_answer_arrives() -> None:
    grammar = parse(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}}).grammar
    assert grammar == Grammar("json_schema", '{"type": "object"}')


def test_the_session_comes_from_the_header_before_the_metadata() -> None:
    metadata = {"user_id": json.dumps({"device_id": "d", "session_id": "from-body"})}
    assert parse(metadata=metadata).session_id == "from-body"
    assert parse({"x-claude-code-session-id": "from-header"}, metadata=metadata).session_id == "from-header"


@pytest.mark.parametrize("metadata", [{}, [], "x", {"user_id": "opaque"}, {"user_id": 7}, {"user_id": "[" * 9999}])
def test_other_metadata_names_no_session(metadata: object) -> None:
    assert parse(metadata=metadata).session_id is None


def test_a_long_session_id_is_cut() -> None:
    assert len(parse({"x-claude-code-session-id": "s" * 10_000}).session_id or "") == 256


def test_count_tokens_needs_no_max_tokens_and_counts_the_same_prompt() -> None:
    asked = body(max_tokens=None, system="Be kind.", tools=[])
    call = parse_count(asked, {})
    assert call.messages == parse(system="Be kind.").messages
    assert call.model == "claude-local-smol"


def test_every_request_gets_an_id_of_its_own() -> None:
    dialect = AnthropicDialect("smol")
    ids = {dialect.parse(body(), {}).call.id for _ in range(8)}
    assert len(ids) == 8
    assert all(one.startswith("msg_") for one in ids)


ENVIRONMENT = {"role": "system", "content": "# Environment"}
QUESTION = {"role": "user", "content": "Weather?"}
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "4 C"}]}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([QUESTION, ENVIRONMENT], "system user"),
        ([QUESTION, ENVIRONMENT, CALLED, RESULT], "system user assistant tool"),
        ([QUESTION, ENVIRONMENT, QUESTION], "user system user"),
        ([QUESTION, CALLED, RESULT, ENVIRONMENT], "user assistant tool system"),
        ([ENVIRONMENT, QUESTION], "system user"),
    ],
)
def test_what_is_said_of_a_question_goes_before_it_so_that_the_question_comes_last(
    turns: list[dict[str, object]], expected: str
) -> None:
    assert " ".join(message.role for message in parse(messages=turns).messages) == expected


def test_the_next_request_of_a_conversation_begins_with_the_turns_of_the_one_before() -> None:
    head = [{"type": "text", "text": "You help."}]
    first = parse(system=head, messages=[QUESTION, ENVIRONMENT]).messages
    second = parse(system=head, messages=[QUESTION, ENVIRONMENT, CALLED, RESULT, ENVIRONMENT]).messages
    assert second[: len(first)] == first
    assert first[0].content == "You help.\n\n# Environment"


@pytest.mark.parametrize(
    ("block", "is_read"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}, False),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}, False),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, False),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}, True),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "words"}]}}, True),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]}, False),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, True),
        ({"type": ["image"]}, True),
    ],
)
def test_text_documents_are_read_and_what_is_no_text_is_noted(block: dict[str, object], is_read: bool) -> None:
    call = parse(messages=[{"role": "user", "content": [{"type": "text", "text": "Look:"}, block]}])
    assert (call.unsupported is None) == is_read
    if call.unsupported is not None:
        assert str(call.unsupported.param).startswith("messages[0].content[1]")


def test_servers_that_a_cloud_would_reach_are_noted() -> None:
    refusal = parse(mcp_servers=[{"type": "url", "url": "https://example.com/mcp"}]).unsupported
    assert refusal is not None
    assert refusal.param == "mcp_servers"

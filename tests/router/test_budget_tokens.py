"""What a prompt is reserved as is no less than what any count of it can be: of real tokenizers and of bytes."""

import json
import re
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicas.chat import ChatTokenizer
from replicas.cloud.release import CloudKind, Draft
from replicas.engine import Message, Role
from replicas.errors import InvalidRequest
from replicas.tools.tool import Tool
from router.budget.tokens import FILE_TOKENS, OWN_TOKENS, PICTURE_TOKENS, TYPED_TOOL_TOKENS, most_tokens
from router.translate.bounds import refuse_dearer
from tests.models import Tiny, bundled_export, sentencepiece, tiny_export
from tests.replicas.engines import tiny

DATA = "A" * 1_000_000
KINDS: tuple[CloudKind, ...] = ("anthropic", "openai")
LONG_WHEN_NORMAL = ("\ufdfa", "\ufb2c", "\U0001d160", "\u0344", "\uff21\u0300")
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text("0123456789", max_size=60),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=60),
    st.lists(st.sampled_from([*LONG_WHEN_NORMAL, "\0", '"', "\\", "\n", "👩‍👩‍👧"]), max_size=20).map("".join),
)
plain = st.recursive(
    st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
turns = st.lists(st.tuples(st.sampled_from(ROLES), texts), max_size=5)


def most(body: dict[str, object], kind: CloudKind = "openai") -> int:
    return most_tokens(Draft("one", kind, json.dumps(body).encode("ascii")))


def longest(value: object) -> int:
    """The bytes of `value` as JSON, in its longest form."""
    worded = json.dumps(value, ensure_ascii=False)
    return max(len(form.encode()) for form in (worded, normalize("NFC", worded), normalize("NFKC", worded)))


def said(*content: object) -> dict[str, object]:
    """A body whose only turn has this content."""
    return {"model": "m", "messages": [{"role": "user", "content": list(content)}]}


@example({"": [], "0": [], "00": []})
@given(st.dictionaries(texts, plain, max_size=4))
def test_no_body_has_more_bytes_in_any_normal_form_than_are_reserved(body: dict[str, object]) -> None:
    assert longest(body) <= most(body) - OWN_TOKENS


@given(st.lists(st.fixed_dictionaries({"function": plain}), max_size=3))
def test_no_tools_have_more_bytes_than_are_reserved_however_they_are_worded(tools: list[dict[str, object]]) -> None:
    held = most({"tools": tools}) - OWN_TOKENS
    assert max(longest(tools), len(json.dumps(tools))) <= held
    in_lines = re.sub(r"\n *", "\n", json.dumps(tools, indent=4))  # the beginning of a line is one token
    assert len(in_lines) <= held


@pytest.fixture(scope="module", params=["bytes", "SentencePiece", "bundled"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    def made() -> Path:
        return tiny_export(tmp_path_factory.mktemp("tokens") / "m", Tiny(metadata=sentencepiece()))

    folder = {"bytes": lambda: tiny().directory, "SentencePiece": made, "bundled": bundled_export}[request.param]()
    return ChatTokenizer(folder)


@settings(max_examples=60, deadline=None)
@given(turns, texts)
def test_no_tokenizer_counts_more_in_a_conversation_than_is_reserved(
    tokenizer: ChatTokenizer, before: list[tuple[Role, str]], last: str
) -> None:
    said_before = [Message(role, text) for role, text in before]
    counted = tokenizer.encode_chat([*said_before, Message("user", last)])
    told = [{"role": message.role, "content": message.content} for message in [*said_before, Message("user", last)]]
    assert len(counted) <= most({"model": "m", "messages": told})


@settings(max_examples=30, deadline=None)
@given(texts, st.dictionaries(texts, texts, max_size=4))
def test_nor_does_a_model_whose_template_words_tools(description: str, properties: dict[str, str]) -> None:
    tokenizer = ChatTokenizer(bundled_export())
    schema = {"type": "object", "properties": {name: {"description": text} for name, text in properties.items()}}
    offered = [Tool("look_up", description, json.dumps(schema))] * 3
    told = {"name": "look_up", "description": description, "parameters": schema}
    body = {**said({"type": "text", "text": "hello"}), "tools": [{"type": "function", "function": told}] * 3}
    assert len(tokenizer.encode_chat([Message("user", "hello")], offered)) <= most(body)


@pytest.mark.parametrize(
    ("kind", "part", "tokens"),
    [
        ("openai", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}, None),
        ("openai", {"type": "image_url", "image_url": "https://example.com/a.png"}, None),
        ("openai", {"type": "file", "file": {"file_data": DATA}}, FILE_TOKENS),
        ("openai", {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, FILE_TOKENS),
        ("anthropic", {"type": "image", "source": {"type": "base64", "data": DATA}}, None),
        ("anthropic", {"type": "document", "source": {"type": "base64", "data": DATA}}, FILE_TOKENS),
        ("anthropic", {"type": "document", "source": {"type": "url", "url": "https://a.example"}}, FILE_TOKENS),
        ("anthropic", {"type": "document", "source": {"type": "text", "data": DATA}}, len(DATA)),
        (
            "anthropic",
            {"type": "document", "source": {"type": "text", "data": DATA}, "citations": {"enabled": True}},
            len(DATA) + FILE_TOKENS,
        ),
        ("anthropic", {"type": "tool_result", "content": [{"type": "image", "source": {"data": DATA}}]}, None),
    ],
)
def test_pictures_and_files_are_reckoned_by_the_piece_and_texts_by_the_byte(
    kind: CloudKind, part: dict[str, object], tokens: int | None
) -> None:
    own = most(said(part), kind) - most(said(), kind)
    wanted = PICTURE_TOKENS[kind] if tokens is None else tokens
    assert wanted <= own < wanted + 250


def test_words_beside_a_picture_count() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": DATA}}
    titled = {**picture, "title": DATA}
    assert most(said(titled), "anthropic") - most(said(picture), "anthropic") >= len(DATA)


def test_a_tool_that_has_a_type_in_the_place_of_a_definition_has_a_number_of_its_own_wherever_it_stands() -> None:
    tool = {"type": "bash_20250124", "name": "bash"}
    later = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}
    for body in ({**said(), "tools": [tool]}, said(later)):
        assert most(body, "anthropic") - most(said(), "anthropic") >= TYPED_TOOL_TOKENS


@pytest.mark.parametrize("name", ["bash_20250124", "text_editor_20250728", "computer_20251124", "memory_20250818"])
def test_tools_that_callers_run_themselves_are_the_models_tokens_alone(name: str) -> None:
    refuse_dearer({"tools": [{"type": name, "name": "x"}, {"name": "y"}, {"type": "function"}, {"type": "custom"}]})
    refuse_dearer({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}, "fallbacks": []})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "tool_search_tool_bm25_20251119", "name": "search"}]),
        ("tools", [{"type": "advisor_20260301", "name": "advisor", "model": "dearer"}]),
        ("tools", [{"type": "openrouter:web_search"}]),
        ("tools", [{"type": "mcp_toolset", "mcp_server_name": "x"}]),
        ("fallbacks", [{"model": "dearer"}]),
        ("fallbacks", "default"),
        ("thread", {"type": "continue", "previous_message_id": "msg_1"}),
        ("compaction", {"type": "summarize"}),
        ("context_management", {"edits": [{"type": "compact_20260112"}]}),
        ("modalities", ["text", "image"]),
    ],
)
def test_what_is_charged_beyond_the_body_and_the_answer_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: ") as caught:
        refuse_dearer({**said(), name: value})
    assert caught.value.param == name


def test_a_tool_that_a_turn_brings_along_is_refused_like_any_other() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}
    with pytest.raises(InvalidRequest, match="web_search_20250305"):
        refuse_dearer(said(added))

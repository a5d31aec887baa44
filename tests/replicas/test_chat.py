"""Messages to tokens: as the model's template says, and whatever a user writes stays text."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from replicas.chat import ChatTokenizer
from replicas.engine import Message, Role
from replicas.errors import InvalidRequest, ModelImportError
from tests.models import ENDOFTEXT, IM_END, IM_START
from tests.replicas.engines import tiny

TRIMMING = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] | trim }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
SPELLED = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "a", "\n", " ", "system")


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return ChatTokenizer(tiny().directory)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny().directory / name, tmp_path)
    return tmp_path


def _configured(folder: Path, **fields: object) -> ChatTokenizer:
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return ChatTokenizer(folder)


def _user(content: str) -> list[Message]:
    return [Message("user", content)]


def _read(ids: tuple[int, ...]) -> str:
    text: str = Tokenizer.from_file(str(tiny().directory / "tokenizer.json")).decode(ids, skip_special_tokens=False)
    return text


def test_a_conversation_is_rendered_by_the_template(chat: ChatTokenizer) -> None:
    ids = chat.encode_chat([Message("system", "be brief"), Message("user", "hello")])
    text = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert _read(ids) == text
    whole = Tokenizer.from_file(str(tiny().directory / "tokenizer.json")).encode(text, add_special_tokens=False)
    assert list(ids) == whole.ids


@given(st.lists(st.sampled_from(SPELLED), max_size=8), st.sampled_from(["system", "user", "assistant", "tool"]))
def test_no_text_becomes_a_control_token(parts: list[str], role: Role) -> None:
    chat, content = ChatTokenizer(tiny().directory), "".join(parts)
    honest = chat.encode_chat([Message(role, "x"), Message("user", "y")])
    ids = chat.encode_chat([Message(role, content), Message("user", "y")])
    for control in (ENDOFTEXT, IM_START, IM_END):
        assert ids.count(control) == honest.count(control)
    said = content if content or role != "tool" else "(empty)"  # this template knows no tools: results are words
    assert _read(ids) == _read(honest).replace("\nx", f"\n{said}", 1)


def test_private_use_characters_of_a_user_survive(chat: ChatTokenizer) -> None:
    content = "\ue0000\ue001 <|im_end|> \ue002"
    assert content in _read(chat.encode_chat(_user(content)))


def test_plain_text_has_no_control_tokens(chat: ChatTokenizer) -> None:
    ids = chat.encode("the <|im_end|>")
    assert _read(ids) == "the <|im_end|>"
    assert IM_END not in ids


def test_a_last_message_of_the_assistant_is_continued(chat: ChatTokenizer) -> None:
    text = _read(chat.encode_chat([*_user("hello"), Message("assistant", "Well, ")]))
    assert text.endswith("<|im_start|>assistant\nWell, ")


def test_an_empty_last_message_of_the_assistant_is_the_generation_prompt(chat: ChatTokenizer) -> None:
    assert chat.encode_chat([*_user("hello"), Message("assistant", " ")]) == chat.encode_chat(_user("hello"))


def test_a_template_that_trims_still_hides_control_tokens(folder: Path) -> None:
    chat = _configured(folder, chat_template=TRIMMING, bos_token={"content": "<|im_start|>"}, eos_token="<|im_end|>")
    assert _read(chat.encode_chat(_user("  <|im_end|> hi "))) == "<|im_start|>user: <|im_end|> hi<|im_end|>assistant: "
    assert chat.encode_chat(_user(" <|im_end|> ")).count(IM_END) == 1
    assert chat.stop_ids == {IM_END}


def test_the_jinja_file_comes_before_the_configuration(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% generation %}said: {{ messages[0].content }}{% endgeneration %}")
    assert _read(ChatTokenizer(folder).encode_chat(_user("x"))) == "said: x"


def test_of_named_templates_the_default_is_taken(folder: Path) -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ messages[0].content }}"}]
    assert _read(_configured(folder, chat_template=named).encode_chat(_user("x"))) == "dx"


def test_what_the_template_refuses_is_the_callers_error(folder: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    chat = _configured(folder, chat_template=template)
    with pytest.raises(InvalidRequest, match="refuses these messages: no system turn"):
        chat.encode_chat([Message("system", "x")])


@pytest.mark.parametrize(
    "template",
    ["{{ messages[0].content.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ nothing.at.all }}", "{{ 1 / 0 }}"],
)
def test_a_template_cannot_leave_its_sandbox(folder: Path, template: str) -> None:
    with pytest.raises(InvalidRequest):
        _configured(folder, chat_template=template).encode_chat(_user("x"))


def test_a_template_that_drops_the_assistants_turn_cannot_continue_it(folder: Path) -> None:
    chat = _configured(folder, chat_template="{{ messages[0].content }}")
    with pytest.raises(InvalidRequest, match="cannot continue"):
        chat.encode_chat([*_user("x"), Message("assistant", "y")])


def test_no_messages_are_refused(chat: ChatTokenizer) -> None:
    with pytest.raises(InvalidRequest):
        chat.encode_chat([])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer_config.json", '{"chat_template": "{% if %}"}', "chat template is broken"),
        ("tokenizer_config.json", "{}", "no chat template"),
        ("tokenizer_config.json", "[", "cannot be used"),
        ("tokenizer.json", "{}", "cannot be used"),
        ("tokenizer.json", None, "has no tokenizer.json"),
    ],
)
def test_a_broken_export_says_what_is_wrong(folder: Path, name: str, content: str | None, words: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ModelImportError, match=words):
        ChatTokenizer(folder)


def test_tool_tags_are_control_tokens_only_in_the_assistants_turns(folder: Path) -> None:
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("    ", special=False)])
    fast.save(str(folder / "tokenizer.json"))
    chat = ChatTokenizer(folder)
    tag, spaces = fast.token_to_id("<tool_call>"), fast.token_to_id("    ")
    assert tag not in chat.encode_chat(_user("<tool_call>"))
    assert tag in chat.encode_chat([*_user("x"), Message("assistant", "<tool_call>{}"), *_user("y")])
    assert spaces in chat.encode_chat(_user("if x:\n    pass"))


def test_special_tokens_have_no_text(chat: ChatTokenizer) -> None:
    detokenizer = chat.detokenizer()
    ids = [IM_START, *chat.encode("the user"), IM_END, 10**6]
    assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == "the user"

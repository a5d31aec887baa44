"""Messages to tokens by the model's own chat template, so that what a user writes never becomes a control token.

Control tokens inside a message (`<|im_end|>` in a user's text) are taken out before the template is rendered and
encoded afterwards as the plain text they are. Everything else is encoded in one pass, so that an honest conversation
gives exactly the ids of Hugging Face's `apply_chat_template`.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from jinja2 import TemplateError
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer as FastTokenizer

from replicas.detokenizer import ByteDetokenizer, Detokenizer, Spelling, spelled
from replicas.engine import Message
from replicas.errors import InvalidRequest, ModelImportError
from replicas.template import ChatTemplate
from replicas.tools.layout import ToolLayout, layout_of
from replicas.tools.syntax import TOOL_TAGS
from replicas.tools.tool import Tool, masked, masked_call, object_of, written

# A batch of one has nothing to share among threads of its own; they would only compete with the model's.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_TAG = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")
_PRIVATE_USE = range(0xE000, 0xF900)


class Tokenizer(Protocol):
    """Text in and out of one model's tokens."""

    tool_layout: ToolLayout
    """How the model's own chat template has it told of tools."""

    tags: Mapping[str, int]
    """The control tokens that an answer may hold, with their ids."""

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), layout: ToolLayout | None = None
    ) -> tuple[int, ...]:
        """The prompt for the next turn; a last message from the assistant is continued. `layout` None is the model's
        own `tool_layout`. Raises InvalidRequest."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """`text` and nothing else: no control tokens, not even those it spells."""
        ...

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """A prompt that is bare text: control tokens that it spells are control tokens, and the vocabulary's own
        beginning comes first, if it has one."""
        ...

    def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
        """For one answer. `is_continuation`: it goes on within a sentence, its first space counts."""
        ...


def is_continuation(messages: Sequence[Message]) -> bool:
    """Whether the answer goes on within the last message: the assistant's, with text, and without calls."""
    last = messages[-1] if messages else Message("user", "")
    return last.role == "assistant" and not last.tool_calls and bool(last.content.strip())


class _Name(BaseModel):
    content: str


class _NamedTemplate(BaseModel):
    name: str
    template: str


class _Config(BaseModel):
    chat_template: str | list[_NamedTemplate] | None = None
    bos_token: str | _Name | None = None
    eos_token: str | _Name | None = None


class ChatTokenizer:
    """The tokenizer and template of the export in the directory `path`. Thread-safe. Raises ModelImportError."""

    def __init__(self, path: Path) -> None:
        config = _config(path)
        special = {"bos_token": _text(config.bos_token), "eos_token": _text(config.eos_token)}
        self._fast = _fast(path)
        self._template = _template(path, config, special)
        self._spelling, self._is_space_stripped = _decoder(path, self._fast)
        added = self._fast.get_added_tokens_decoder()
        self._special_ids = frozenset(id_ for id_, token in added.items() if token.special)
        # Some models' tool tags are added tokens that are not marked special; runs of spaces can be added tokens too,
        # and those are text.
        tags = {token.content: id_ for id_, token in added.items() if _TAG.fullmatch(token.content)}
        self._control_ids = self._special_ids | frozenset(tags.values())
        self.tags: Mapping[str, int] = {
            tag: id_ for tag, id_ in tags.items() if tag in TOOL_TAGS or id_ not in self._special_ids
        }
        self._silent_ids = self._special_ids - frozenset(self.tags.values())
        self.tool_layout = layout_of(self._template.source, self.tags)
        self._control = _any_of(added[id_].content for id_ in self._control_ids)
        self._special = _any_of(added[id_].content for id_ in self._special_ids)
        self._bytes: dict[int, bytes] = {}
        end = self._fast.token_to_id(special["eos_token"])
        self.stop_ids: frozenset[int] = frozenset() if end is None else frozenset({end})

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), layout: ToolLayout | None = None
    ) -> tuple[int, ...]:
        is_continued = is_continuation(messages)
        if not is_continued and messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
            messages = messages[:-1]  # it says nothing
        if not messages:
            raise InvalidRequest("there are no messages to answer", "messages")
        opens, closes, ends = _unused(chain(*map(_texts, messages), *map(_tool_texts, tools)), 3)
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return f"{opens}{len(hidden) - 1}{closes}"

        turns = [self._hide(message, hide) for message in messages]
        if is_continued:
            turns[-1] = replace(turns[-1], content=turns[-1].content + ends)
        offered = [masked(tool, partial(self._control.sub, hide)) for tool in tools]
        prompt = (layout or self.tool_layout).prompt(turns, offered)
        text = self._template.render(prompt.turns, prompt.tools, is_answer_begun=is_continued)
        if is_continued:
            if text.count(ends) != 1:
                reason = "the model's chat template cannot continue a message from the assistant; end with the user's"
                raise InvalidRequest(reason, "messages")
            text = text[: text.index(ends)]
        return tuple(self._encode_with(text, re.compile(f"{opens}([0-9]+){closes}"), hidden))

    def encode(self, text: str) -> tuple[int, ...]:
        opens, closes = _unused([text], 2)
        hidden = self._control.findall(text)
        numbers = iter(range(len(hidden)))
        text = self._control.sub(lambda match: f"{opens}{next(numbers)}{closes}", text)
        return tuple(self._encode_with(text, re.compile(f"{opens}([0-9]+){closes}"), hidden))

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return tuple(_ids(self._fast, text, with_specials=True))

    def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
        return ByteDetokenizer(self.bytes_of, is_space_stripped=self._is_space_stripped and not is_continuation)

    def _hide(self, message: Message, hide: Callable[[re.Match[str]], str]) -> Message:
        # The model's own tool calls may come back as text of the assistant's turns: their tags stay tags.
        pattern = self._special if message.role == "assistant" else self._control
        calls = tuple(masked_call(call, partial(self._control.sub, hide)) for call in message.tool_calls)
        tool_name, tool_call_id = (self._control.sub(hide, text) for text in (message.tool_name, message.tool_call_id))
        content = pattern.sub(hide, message.content)
        return replace(message, content=content, tool_calls=calls, tool_name=tool_name, tool_call_id=tool_call_id)

    def _encode_with(self, text: str, mark: re.Pattern[str], hidden: Sequence[str]) -> Iterator[int]:
        for place, piece in enumerate(mark.split(text)):
            if place % 2:
                yield from self._encode_plain(hidden[int(piece)])
            elif piece:
                ids = _ids(self._fast, piece)
                if sum(id_ in self._control_ids for id_ in ids) > len(self._control.findall(piece)):
                    # A normalizer made a control token of look-alike characters.
                    raise InvalidRequest("the text holds characters that spell a control token", "messages")
                yield from ids

    def _encode_plain(self, control: str) -> list[int]:
        ids = _ids(self._plain, control)
        if self._control_ids.isdisjoint(ids):
            return ids
        return [id_ for character in control for id_ in _ids(self._plain, character)]

    @cached_property
    def _plain(self) -> FastTokenizer:
        """The same vocabulary without control tokens. Seldom needed, so made on first use."""
        parts = json.loads(self._fast.to_str())
        parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] not in self._control_ids]
        return FastTokenizer.from_str(json.dumps(parts))

    def bytes_of(self, id_: int) -> bytes:
        """What a token spells; nothing for a control token."""
        found = self._bytes.get(id_)
        if found is None:
            token = None if id_ in self._silent_ids else self._fast.id_to_token(id_)
            found = self._bytes[id_] = b"" if token is None else spelled(token, self._spelling)
        return found


def _ids(fast: FastTokenizer, text: str, *, with_specials: bool = False) -> list[int]:
    """The ids of `text`, made as a batch: that one lets other threads run meanwhile, and megabytes take seconds."""
    [found] = fast.encode_batch_fast([text], add_special_tokens=with_specials)
    ids: list[int] = found.ids
    return ids


def _config(path: Path) -> _Config:
    try:
        return _Config.model_validate_json((path / "tokenizer_config.json").read_bytes())
    except FileNotFoundError:
        return _Config()
    except (OSError, ValidationError) as error:
        raise ModelImportError(str(path), f"tokenizer_config.json cannot be used: {error}") from error


def _fast(path: Path) -> FastTokenizer:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelImportError(str(path), "it has no tokenizer.json; save the fast tokenizer beside the model")
    try:
        return FastTokenizer.from_file(str(file))
    except Exception as error:  # the binding raises bare Exception
        raise ModelImportError(str(path), f"tokenizer.json cannot be used: {error}") from error


def _template(path: Path, config: _Config, special: dict[str, str]) -> ChatTemplate:
    file = path / "chat_template.jinja"
    source = config.chat_template
    if file.is_file():
        source = file.read_text(encoding="utf-8")
    elif isinstance(source, list):
        named = {entry.name: entry.template for entry in source}
        source = named.get("default")
    if source is None:
        raise ModelImportError(str(path), "it has no chat template (chat_template.jinja); use an instruct model")
    try:
        return ChatTemplate(source, special)
    except TemplateError as error:
        raise ModelImportError(str(path), f"its chat template is broken: {error}") from error


def _decoder(path: Path, fast: FastTokenizer) -> tuple[Spelling, bool]:
    """How tokens spell bytes, and whether the first space of a text is the vocabulary's own."""
    state = json.loads(fast.decoder.__getstate__()) if fast.decoder is not None else {"type": "none"}
    parts = {part["type"]: part for part in state.get("decoders", [state])}
    if "ByteLevel" in parts:
        return "byte_level", False
    if "ByteFallback" in parts or "Metaspace" in parts:
        is_metaspace_first = parts.get("Metaspace", {}).get("prepend_scheme", "never") != "never"
        return "byte_fallback", is_metaspace_first or parts.get("Strip", {}).get("start", 0) > 0
    kinds = ", ".join(parts)
    reason = f"its tokenizer decodes by {kinds}; byte-level and byte-fallback vocabularies work"
    raise ModelImportError(str(path), reason)


def _any_of(strings: Iterator[str]) -> re.Pattern[str]:
    longest_first = sorted(strings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _texts(message: Message) -> Iterator[str]:
    yield from (message.content, message.tool_name, message.tool_call_id)
    for call in message.tool_calls:
        yield from (call.id, call.name, written(object_of(call.arguments) or {}))


def _tool_texts(tool: Tool) -> tuple[str, ...]:
    return tool.name, tool.description, written(object_of(tool.schema) or {})


def _unused(texts: Iterable[str], count: int) -> list[str]:
    """Characters for private use that none of `texts` holds."""
    present = set[str]().union(*texts)
    found = list(islice((chr(code) for code in _PRIVATE_USE if chr(code) not in present), count))
    if len(found) < count:
        raise InvalidRequest("the text holds every private-use character of Unicode", "messages")
    return found


def _text(name: str | _Name | None) -> str:
    return name.content if isinstance(name, _Name) else name or ""

"""Messages to tokens by the model's own chat template, so that what a user writes never becomes a control token.

Control tokens inside a message (`<|im_end|>` in a user's text) are taken out before the template is rendered and
encoded afterwards as the plain text they are. Everything else is encoded in one pass, so that an honest conversation
gives exactly the ids of Hugging Face's `apply_chat_template`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

from jinja2 import TemplateError
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer as FastTokenizer

from replicas.detokenizer import ByteDetokenizer, Detokenizer, Spelling, spelled
from replicas.engine import Message
from replicas.errors import InvalidRequest, ModelImportError
from replicas.template import ChatTemplate

_TAG = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")
_PRIVATE_USE = range(0xE000, 0xF900)


class Tokenizer(Protocol):
    """Text in and out of one model's tokens."""

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt for the next turn; a last message from the assistant is continued. Raises InvalidRequest."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """`text` and nothing else: no control tokens, not even those it spells."""
        ...

    def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
        """For one answer. `is_continuation`: it goes on within a sentence, its first space counts."""
        ...


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
        tags = frozenset(id_ for id_, token in added.items() if _TAG.fullmatch(token.content))
        self._control_ids = self._special_ids | tags
        self._control = _any_of(added[id_].content for id_ in self._control_ids)
        self._special = _any_of(added[id_].content for id_ in self._special_ids)
        self._bytes: dict[int, bytes] = {}
        end = self._fast.token_to_id(special["eos_token"])
        self.stop_ids: frozenset[int] = frozenset() if end is None else frozenset({end})

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        is_continued = bool(messages) and messages[-1].role == "assistant"
        if is_continued and not messages[-1].content.strip():
            messages, is_continued = messages[:-1], False
        if not messages:
            raise InvalidRequest("there are no messages to answer", "messages")
        opens, closes, ends = _unused("".join(message.content for message in messages), 3)
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return f"{opens}{len(hidden) - 1}{closes}"

        turns = [{"role": message.role, "content": self._hide(message, hide)} for message in messages]
        if is_continued:
            turns[-1]["content"] += ends
        text = self._template.render(turns, is_answer_begun=is_continued)
        if is_continued:
            if text.count(ends) != 1:
                reason = "the model's chat template cannot continue a message from the assistant; end with the user's"
                raise InvalidRequest(reason, "messages")
            text = text[: text.index(ends)]
        return tuple(self._encode_with(text, re.compile(f"{opens}([0-9]+){closes}"), hidden))

    def encode(self, text: str) -> tuple[int, ...]:
        opens, closes = _unused(text, 2)
        hidden = self._control.findall(text)
        numbers = iter(range(len(hidden)))
        text = self._control.sub(lambda match: f"{opens}{next(numbers)}{closes}", text)
        return tuple(self._encode_with(text, re.compile(f"{opens}([0-9]+){closes}"), hidden))

    def count(self, messages: Sequence[Message]) -> int:
        """How many tokens the prompt for `messages` has."""
        return len(self.encode_chat(messages))

    def detokenizer(self, *, is_continuation: bool = False) -> Detokenizer:
        return ByteDetokenizer(self._bytes_of, is_space_stripped=self._is_space_stripped and not is_continuation)

    def _hide(self, message: Message, hide: Callable[[re.Match[str]], str]) -> str:
        # The model's own tool calls come back in the assistant's turns: their tags stay tags.
        pattern = self._special if message.role == "assistant" else self._control
        return pattern.sub(hide, message.content)

    def _encode_with(self, text: str, mark: re.Pattern[str], hidden: Sequence[str]) -> Iterator[int]:
        for place, piece in enumerate(mark.split(text)):
            if place % 2:
                yield from self._encode_plain(hidden[int(piece)])
            elif piece:
                ids = self._fast.encode(piece, add_special_tokens=False).ids
                if sum(id_ in self._control_ids for id_ in ids) > len(self._control.findall(piece)):
                    # A normalizer made a control token of look-alike characters.
                    raise InvalidRequest("the text holds characters that spell a control token", "messages")
                yield from ids

    def _encode_plain(self, control: str) -> list[int]:
        ids: list[int] = self._plain.encode(control, add_special_tokens=False).ids
        if self._control_ids.isdisjoint(ids):
            return ids
        return [id_ for character in control for id_ in self._plain.encode(character, add_special_tokens=False).ids]

    @cached_property
    def _plain(self) -> FastTokenizer:
        """The same vocabulary without control tokens. Seldom needed, so made on first use."""
        parts = json.loads(self._fast.to_str())
        parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] not in self._control_ids]
        return FastTokenizer.from_str(json.dumps(parts))

    def _bytes_of(self, id_: int) -> bytes:
        found = self._bytes.get(id_)
        if found is None:
            token = None if id_ in self._special_ids else self._fast.id_to_token(id_)
            found = self._bytes[id_] = b"" if token is None else spelled(token, self._spelling)
        return found


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


def _unused(text: str, count: int) -> list[str]:
    """Characters for private use that `text` does not hold."""
    present = set(text)
    found = list(islice((chr(code) for code in _PRIVATE_USE if chr(code) not in present), count))
    if len(found) < count:
        raise InvalidRequest("the text holds every private-use character of Unicode", "messages")
    return found


def _text(name: str | _Name | None) -> str:
    return name.content if isinstance(name, _Name) else name or ""

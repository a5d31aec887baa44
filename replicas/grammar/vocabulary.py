"""An export's vocabulary, as llguidance wants it: the bytes of each token, laid out as a trie.

It reads tokenizer.json itself (byte-level and byte-fallback). Truncation and padding, which some exports keep in
there, would cut forced text and are taken out; logits past the tokenizer's last token are never allowed.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TypedDict

from llguidance import LLTokenizer

from replicas.errors import InvalidRequest


class _Added(TypedDict):
    id: int


class _Model(TypedDict):
    vocab: dict[str, int] | list[object]


class _Tokenizer(TypedDict):
    """What is read of tokenizer.json."""

    model: _Model
    added_tokens: list[_Added]


def open_vocabulary(directory: Path, vocab: int, end_ids: Collection[int]) -> LLTokenizer:
    """The tokenizer in `directory` for a model with `vocab` logits. 0.25 s and 40 MB at 49152 tokens.

    Raises InvalidRequest where llguidance cannot read the tokenizer: such a model answers without grammars only.
    """
    try:
        tokenizer: _Tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
        known = _tokens(tokenizer)
        ends = sorted(token for token in end_ids if 0 <= token < known)
        text = json.dumps({**tokenizer, "truncation": None, "padding": None})
        return LLTokenizer(text, n_vocab=max(vocab, known), eos_token=ends or None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"this model cannot follow grammars: its tokenizer is of another kind ({error})"
        ) from error


def _tokens(tokenizer: _Tokenizer) -> int:
    """The size of the vocabulary, added tokens included."""
    pieces = tokenizer["model"]["vocab"]
    last = max(pieces.values()) if isinstance(pieces, dict) else len(pieces) - 1
    return 1 + max([last, *(token["id"] for token in tokenizer["added_tokens"])])

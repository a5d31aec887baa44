"""A byte-level BPE vocabulary of any size: special tokens, the 256 bytes, then pairs and triples that merge.

Letters and the space come first, so that ordinary text uses the merges. No two tokens have the same text.
"""

from collections.abc import Iterator
from itertools import islice, product

from tokenizers import pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_COMMON = "Ġetaoinshrdlucmfwypvbgkjqxz"


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """`size` tokens, and the merges that lead to those of several bytes. `size` is at least 512."""
    steps = list(islice(_steps(), size - len(SPECIAL) - 256))
    tokens = [*SPECIAL, *_alphabet(), *(left + right for left, right in steps)]
    return tokens, [f"{left} {right}" for left, right in steps]


def _alphabet() -> list[str]:
    characters = set(pre_tokenizers.ByteLevel.alphabet())
    return [*_COMMON, *sorted(characters.difference(_COMMON))]


def _steps() -> Iterator[tuple[str, str]]:
    alphabet = _alphabet()
    yield from product(alphabet, alphabet)
    yield from (("".join(pair), last) for pair, last in product(product(alphabet, alphabet), alphabet))

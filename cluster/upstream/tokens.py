"""The upstream's tokens: pieces of at most four letters with the blanks before them. Nobody's tokenizer, but exact.

The same text has the same pieces whoever counts, and the pieces of a text joined are the text.
"""

import re

from cluster.upstream.asked import Asked
from cluster.upstream.script import ModelCard

_PIECE = re.compile(r"\s*\S{1,4}|\s+")


def pieces(text: str) -> list[str]:
    """`text` cut into tokens."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many tokens `text` has."""
    return len(pieces(text))


def prompt_tokens(asked: Asked, card: ModelCard) -> int:
    """How many tokens the model counts for all that it is asked."""
    size = len(asked.prompt.encode("utf-8", "surrogatepass")) if card.is_dense else count(asked.prompt)
    return size + asked.media_tokens

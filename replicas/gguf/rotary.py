"""Cosines and sines of the rotary embedding, for every position of the context.

Frequencies are base^(-2i/size) (RoFormer, arXiv:2104.09864). Linear scaling divides all of them; Llama 3.1's factors,
which GGUF carries as the tensor rope_freqs.weight, divide each by its own.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from replicas.gguf.blocks import Floats
from replicas.gguf.datafile import DataFile, Piece
from replicas.gguf.llama import Llama

PIECE_TOKENS = 4096


def place_rotary(llama: Llama, factors: Floats | None, data: DataFile) -> None:
    """Place the initializers `cos_cache` and `sin_cache`, each [context, rope_size / 2]."""
    half = llama.rope_size // 2
    frequencies = llama.rope_base ** -(np.arange(half) / half) / llama.rope_scale
    if factors is not None:
        frequencies = frequencies / factors
    _place("cos_cache", np.cos, frequencies, llama.context_tokens, data)
    _place("sin_cache", np.sin, frequencies, llama.context_tokens, data)


def _place(
    name: str,
    wave: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    frequencies: NDArray[np.float64],
    tokens: int,
    data: DataFile,
) -> None:
    offset = data.place(name, "float32", (tokens, len(frequencies)))

    def pieces() -> Iterator[Piece]:
        for first in range(0, tokens, PIECE_TOKENS):
            positions = np.arange(first, min(first + PIECE_TOKENS, tokens))
            values = wave(np.outer(positions, frequencies)).astype(np.float32)
            yield Piece(offset + first * len(frequencies) * 4, values)

    data.fill_from(pieces)

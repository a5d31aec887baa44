"""Small random models in the real formats: GGUF files, and the ONNX exports that the importer makes of them.

The default is a llama of 2 layers, hidden 64, 4 heads, 2 KV heads, head size 16, with a byte-level BPE vocabulary
(every text encodes), ChatML tokens and template, a context of 512 tokens and an output matrix of its own. Its
greedy output is varied: the weights are large enough that what a layer adds outweighs the token's own embedding.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from bench.models.longrope import LongRope, add_longrope
from replicas.bundled import NAME
from replicas.errors import NotFound
from replicas.gguf.export import export
from replicas.gguf.metadata import Value
from replicas.store import ModelStore

ENDOFTEXT, IM_START, IM_END = 0, 1, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("the", "user", "system", "assistant", "and", "ing")
SPACED = ("the", "and")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    """A tiny model's looks. `metadata` and `tensors` replace the file's own or add to them; `without` leaves out."""

    kind: str = "Q8_0"
    output_kind: str | None = None
    seed: int = 0
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    ffn: int = 128
    context_tokens: int = 512
    is_tied: bool = False
    metadata: Mapping[str, Value] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[np.float32] | NDArray[np.float16]] = field(default_factory=dict)
    without: tuple[str, ...] = ()


TINY = Tiny()


def tiny_export(directory: Path, tiny: Tiny = TINY) -> Path:
    """The ONNX export of a tiny model, as the new directory `directory`."""
    source = directory.parent / f"{directory.name}.gguf"
    export(tiny_gguf(source, tiny), directory)
    source.unlink()
    return directory


def tiny_longrope_export(directory: Path, switch_tokens: int = 48, context_tokens: int = 512) -> Path:
    """The tiny model with LongRoPE: masks of more than `switch_tokens` take other rotary caches for the whole call."""
    tiny = replace(TINY, context_tokens=switch_tokens)
    pairs = tiny.head_size // 2
    factors = tuple(1.0 + pair for pair in range(pairs))
    add_longrope(tiny_export(directory, tiny), LongRope(switch_tokens, context_tokens, factors))
    return directory


def bundled_export() -> Path:
    """The bundled model's directory. Fails where no set-up has put it: `make test` does."""
    home = Path(os.environ.get("SHOAL_HOME", "~/.cache/shoal")).expanduser()
    try:
        return ModelStore(home / "models").find(NAME).path
    except NotFound:
        pytest.fail("the bundled model is not set up: `make test` or `python -m replicas.bundled --root DIR` does it")


def tiny_gguf(path: Path, tiny: Tiny = TINY) -> Path:
    """Write a tiny model's GGUF file to `path`."""
    writer = GGUFWriter(path, "llama")
    writer.kv_data[0].clear()  # the architecture, which it adds unasked
    metadata = {**_metadata(tiny), **tiny.metadata}
    for key, value in metadata.items():
        if key not in tiny.without:
            _add(writer, key, value)
    tokens = metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    for name, values in {**_tensors(tiny, len(tokens)), **tiny.tensors}.items():
        if name not in tiny.without:
            is_matrix = values.ndim == 2
            kind = tiny.output_kind if name == "output.weight" and tiny.output_kind else tiny.kind
            vector_kind = "F16" if values.dtype == np.float16 else "F32"
            quantized, raw_type = _quantize(values, kind if is_matrix else vector_kind)
            writer.add_tensor(name, quantized, raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: the special tokens, the 256 bytes, and what leads up to a few words, some after a space."""
    steps = [(word[:cut], word[cut]) for word in WORDS for cut in range(1, len(word))]
    steps += [("Ġ", word) for word in SPACED]
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in steps)]
    return tokens, [f"{left} {right}" for left, right in steps]


def sentencepiece() -> dict[str, Value]:
    """Metadata of a small SentencePiece vocabulary: unknown, BOS, EOS, the byte tokens, a few scored pieces."""
    pieces = {"a": -50, "b": -51, "c": -52, "é": -54, "▁": -53, "ab": -3, "bc": -2, "abc": -6, "cc": -8, "bcc": -7}
    pieces |= {"▁a": -4, "▁ab": -5}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces],
        "tokenizer.ggml.scores": [0.0] * 259 + [float(score) for score in pieces.values()],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }


def _metadata(tiny: Tiny) -> dict[str, Value]:
    tokens, merges = vocabulary()
    return {
        "general.architecture": "llama",
        "general.name": "Tiny Llama",
        "general.license": "apache-2.0",
        "llama.block_count": tiny.layers,
        "llama.context_length": tiny.context_tokens,
        "llama.embedding_length": tiny.hidden,
        "llama.feed_forward_length": tiny.ffn,
        "llama.attention.head_count": tiny.heads,
        "llama.attention.head_count_kv": tiny.kv_heads,
        "llama.attention.key_length": tiny.head_size,
        "llama.attention.value_length": tiny.head_size,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": IM_START,
        "tokenizer.ggml.eos_token_id": IM_END,
        "tokenizer.ggml.padding_token_id": IM_END,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _tensors(tiny: Tiny, tokens: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(tiny.seed)

    def matrix(outputs: int, inputs: int, gain: float = 1.0) -> NDArray[np.float32]:
        deviation = gain / np.sqrt(inputs)
        return random.normal(0.0, deviation, (outputs, inputs)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return random.uniform(0.7, 1.3, tiny.hidden).astype(np.float32)

    queries, keys = tiny.heads * tiny.head_size, tiny.kv_heads * tiny.head_size
    tensors = {"token_embd.weight": matrix(tokens, tiny.hidden, 4.0), "output_norm.weight": norm()}
    for layer in range(tiny.layers):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": norm(),
            f"blk.{layer}.ffn_norm.weight": norm(),
            f"blk.{layer}.attn_q.weight": matrix(queries, tiny.hidden, 2.0),
            f"blk.{layer}.attn_k.weight": matrix(keys, tiny.hidden, 2.0),
            f"blk.{layer}.attn_v.weight": matrix(keys, tiny.hidden, 2.0),
            f"blk.{layer}.attn_output.weight": matrix(tiny.hidden, queries, 2.0),
            f"blk.{layer}.ffn_gate.weight": matrix(tiny.ffn, tiny.hidden, 2.0),
            f"blk.{layer}.ffn_up.weight": matrix(tiny.ffn, tiny.hidden, 2.0),
            f"blk.{layer}.ffn_down.weight": matrix(tiny.hidden, tiny.ffn, 2.0),
        }
    if not tiny.is_tied:
        tensors["output.weight"] = matrix(tokens, tiny.hidden, 4.0)
    return tensors


def _quantize(
    values: NDArray[np.float32] | NDArray[np.float16], kind: str
) -> tuple[NDArray[np.uint8] | NDArray[np.float32], GGMLQuantizationType]:
    if kind == "Q6_K":
        return q6_k(values.astype(np.float32)), GGMLQuantizationType.Q6_K
    raw_type = GGMLQuantizationType[kind]
    return quantize(values, raw_type), raw_type


def q6_k(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A plain Q6_K packing (one scale for 256 weights), which the gguf package reads but does not write."""
    blocks = values.reshape(-1, 256)
    scales = np.abs(blocks).max(-1, keepdims=True) / 31
    steps = (np.rint(blocks / scales) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([steps[:, :, 0] & 15 | steps[:, :, 2] << 4, steps[:, :, 1] & 15 | steps[:, :, 3] << 4], -1)
    high = steps[:, :, 0] >> 4 | steps[:, :, 1] >> 4 << 2 | steps[:, :, 2] >> 4 << 4 | steps[:, :, 3] >> 4 << 6
    ones = np.ones((len(blocks), 16), np.uint8)
    parts = [
        low.reshape(len(blocks), -1),
        high.reshape(len(blocks), -1),
        ones,
        scales.astype(np.float16).view(np.uint8),
    ]
    return np.concatenate(parts, -1).reshape(len(values), -1)


def _add(writer: GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
        return
    kinds = {
        str: GGUFValueType.STRING,
        bool: GGUFValueType.BOOL,
        float: GGUFValueType.FLOAT32,
        int: GGUFValueType.UINT32,
    }
    writer.add_key_value(key, value, kinds[type(value)])

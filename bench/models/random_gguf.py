"""Writes a GGUF file of a given shape with random Q4_0 weights, one tensor at a time.

Blocks are drawn packed: 16 random bytes are 32 weights of -8..7 (deviation 4.6) and one scale makes their deviation
`gain / sqrt(inputs)`, so that activations keep their size through the layers. Half of the scales are negative, as -8..7
has a mean: otherwise every prompt would be answered by the same token for ever. The same seed gives the same file.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from bench.models.shapes import Shape
from bench.models.vocabulary import CHAT_TEMPLATE, SPECIAL, vocabulary

_WEIGHTS, _BLOCK_BYTES = 32, 18
_DEVIATION = 4.6  # of uniform integers from -8 to 7
_CONTROL, _NORMAL = 3, 1


def write_random_gguf(path: Path, shape: Shape, seed: int = 0) -> Path:
    """Write the file; memory in use is that of the largest tensor."""
    writer = GGUFWriter(path, "llama")
    _describe(writer, shape)
    random = np.random.default_rng(seed)
    for name in shape.norms():
        writer.add_tensor_info(name, (shape.hidden,), np.dtype(np.float32), shape.hidden * 4)
    kind = GGMLQuantizationType.Q4_0
    for name, (outputs, inputs) in shape.matrices().items():
        row_bytes = inputs // _WEIGHTS * _BLOCK_BYTES
        writer.add_tensor_info(name, (outputs, row_bytes), np.dtype(np.uint8), outputs * row_bytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in shape.norms():
        writer.write_tensor_data(random.uniform(0.7, 1.3, shape.hidden).astype(np.float32))
    for name, (outputs, inputs) in shape.matrices().items():
        gain = 4.0 if name in ("token_embd.weight", "output.weight") else 2.0
        writer.write_tensor_data(_blocks(random, outputs, inputs, gain))
    writer.close()
    return path


def _blocks(random: np.random.Generator, outputs: int, inputs: int, gain: float) -> NDArray[np.uint8]:
    """Random Q4_0 rows: [outputs, bytes of a row]."""
    count = outputs * inputs // _WEIGHTS
    blocks = np.empty((count, _BLOCK_BYTES), np.uint8)
    scale = np.float16(gain / np.sqrt(inputs) / _DEVIATION)
    blocks[:, :2] = np.where(random.random(count) < 0.5, scale, -scale).astype(np.float16)[:, None].view(np.uint8)
    blocks[:, 2:] = np.frombuffer(random.bytes(count * 16), np.uint8).reshape(count, 16)
    return blocks.reshape(outputs, -1)


def _describe(writer: GGUFWriter, shape: Shape) -> None:
    tokens, merges = vocabulary(shape.vocab)
    writer.add_name(shape.name)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.rotated)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL] * len(SPECIAL) + [_NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(SPECIAL.index("<|end|>"))
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)

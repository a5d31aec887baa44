"""Random LoRA adapters in PEFT's files, and what they add to a model."""

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.models import TINY, Tiny
from tests.replicas.reference import Reference

Pair: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""lora_A [rank, inputs] and lora_B [outputs, rank]."""
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_GGUF = dict(zip(MODULES, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), strict=True))


def random_pairs(
    tiny: Tiny = TINY, rank: int = 4, modules: tuple[str, ...] = MODULES, seed: int = 0
) -> dict[str, Pair]:
    """A and B for `modules` of every layer, by PEFT's key without the side."""
    random = np.random.default_rng(seed)
    pairs = {}
    for layer in range(tiny.layers):
        for module in modules:
            outputs, inputs = sizes(tiny, module)
            a = random.normal(0, 1 / np.sqrt(inputs), (rank, inputs)).astype(np.float32)
            b = random.normal(0, 1 / np.sqrt(rank), (outputs, rank)).astype(np.float32)
            block = "mlp" if module in MODULES[4:] else "self_attn"
            pairs[f"base_model.model.model.layers.{layer}.{block}.{module}"] = (a, b)
    return pairs


def sizes(tiny: Tiny, module: str) -> tuple[int, int]:
    """Outputs and inputs of a linear layer."""
    queries, keys = tiny.heads * tiny.head_size, tiny.kv_heads * tiny.head_size
    return {
        "q_proj": (queries, tiny.hidden),
        "k_proj": (keys, tiny.hidden),
        "v_proj": (keys, tiny.hidden),
        "o_proj": (tiny.hidden, queries),
        "gate_proj": (tiny.ffn, tiny.hidden),
        "up_proj": (tiny.ffn, tiny.hidden),
        "down_proj": (tiny.hidden, tiny.ffn),
    }[module]


def write_peft(
    directory: Path, pairs: Mapping[str, Pair], element: str = "F32", settings: Mapping[str, object] | None = None
) -> Path:
    """An adapter's folder. `element` is F64, F32, F16 or BF16; `settings` replace the plain ones or add to them."""
    directory.mkdir()
    sides = {
        f"{key}.lora_{side}.weight": values
        for key, pair in pairs.items()
        for side, values in zip("AB", pair, strict=True)
    }
    (directory / "adapter_model.safetensors").write_bytes(_safetensors(sides, element))
    rank = len(next(iter(pairs.values()))[0])
    plain = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": "all-linear"}
    (directory / "adapter_config.json").write_text(json.dumps({**plain, **(settings or {})}))
    return directory


def _safetensors(tensors: Mapping[str, NDArray[np.float32]], element: str) -> bytes:
    """The format by hand, for numpy has no BF16: the length of a header, that header as JSON, the numbers."""
    header, data = {}, b""
    for name, values in tensors.items():
        start = len(data)
        data += _bytes(values, element)
        header[name] = {"dtype": element, "shape": values.shape, "data_offsets": (start, len(data))}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _bytes(values: NDArray[np.float32], element: str) -> bytes:
    if element == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F64": np.float64, "F32": np.float32, "F16": np.float16}[element]).tobytes()


def merged(reference: Reference, tiny: Tiny, pairs: Mapping[str, Pair], scale: float) -> Reference:
    """The model of `reference` with an adapter in its weights. GGUF has the rows of q and k in pairs."""
    weights = dict(reference.weights)
    for key, (a, b) in pairs.items():
        layer, module = key.split("layers.")[1].split(".")[0], key.rsplit(".", 1)[1]
        added = scale * (b @ a)
        heads = {"q_proj": tiny.heads, "k_proj": tiny.kv_heads}.get(module)
        if heads is not None:
            added = added.reshape(heads, 2, tiny.head_size // 2, -1).swapaxes(1, 2).reshape(added.shape)
        name = f"blk.{layer}.{_GGUF[module]}.weight"
        weights[name] = weights[name] + added
    return replace(reference, weights=weights)

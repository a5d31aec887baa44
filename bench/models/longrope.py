"""Gives an export LongRoPE: two rotary caches behind an `If` on the width of the mask, as the GenAI builder writes it.

`attention_mask -> Shape -> Gather -> Greater -> If -> (cos_cache, sin_cache)`, both caches inside the branches as
Constant nodes. Frequencies are divided by the factors of their regime and the waves scaled by `magnitude`
(LongRoPE, arXiv:2402.13753; Phi-3's own formula for the magnitude).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from replicas.export import CONFIG

CACHES = ("cos_cache", "sin_cache")
_NAME = "/model/rope_caches_subgraph"


@dataclass(frozen=True, slots=True)
class LongRope:
    """Two regimes. A mask of at most `switch_tokens` takes the short cache; factors are one a rotated pair."""

    switch_tokens: int
    context_tokens: int
    long_factors: tuple[float, ...]
    base: float = 10000.0

    @property
    def magnitude(self) -> float:
        """What cosines and sines of both regimes are multiplied by."""
        stretch = self.context_tokens / self.switch_tokens
        return math.sqrt(1 + math.log(stretch) / math.log(self.switch_tokens))


def add_longrope(directory: Path, rope: LongRope) -> None:
    """Give the export in `directory` the two caches in place of its own, and the longer context."""
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    model_file = directory / config["model"]["decoder"]["filename"]
    model = onnx.load(model_file, load_external_data=False)
    _edit(model.graph, rope)
    model_file.write_bytes(model.SerializeToString())
    config["model"]["type"] = "phi3"  # by which GenAI knows that the cache changes on the way
    config["model"]["context_length"] = config["search"]["max_length"] = rope.context_tokens
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _edit(graph: GraphProto, rope: LongRope) -> None:
    kept = [tensor for tensor in graph.initializer if tensor.name not in CACHES]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    gather = next(node for node in graph.node if node.op_type == "Gather" and "mask_length" in node.output)
    place = list(graph.node).index(gather) + 1
    for offset, node in enumerate(_subgraph(gather.output[0], rope)):
        graph.node.insert(place + offset, node)


def _subgraph(length: str, rope: LongRope) -> list[NodeProto]:
    switch = f"/model/constants/INT64/{rope.switch_tokens}"
    number = helper.make_tensor(switch, TensorProto.INT64, [], [rope.switch_tokens])
    short = (1.0,) * len(rope.long_factors)
    return [
        helper.make_node("Constant", [], [switch], name=switch.replace("constants", "constant_nodes"), value=number),
        helper.make_node("Greater", [length, switch], [f"{_NAME}/Greater/output_0"], name=f"{_NAME}/Greater"),
        helper.make_node(
            "If",
            [f"{_NAME}/Greater/output_0"],
            list(CACHES),
            name=f"{_NAME}/If",
            then_branch=_branch("large", rope, rope.long_factors, rope.context_tokens),
            else_branch=_branch("small", rope, short, rope.switch_tokens),
        ),
    ]


def _branch(size: str, rope: LongRope, factors: tuple[float, ...], tokens: int) -> GraphProto:
    half = len(factors)
    frequencies = rope.base ** -(np.arange(half) / half) / np.array(factors)
    angles = np.outer(np.arange(tokens), frequencies)
    waves = {f"cos_cache_{size}": np.cos(angles), f"sin_cache_{size}": np.sin(angles)}
    nodes, outputs = [], []
    for name, wave in waves.items():
        values: NDArray[np.float32] = (wave * rope.magnitude).astype(np.float32)
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name)))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape))
    return helper.make_graph(nodes, f"{size}_rope_caches_graph", [], outputs)

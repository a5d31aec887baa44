"""The matrix products of a graph that an adapter may target, under Hugging Face's names.

Two kinds of names are known: those of this project's exports (`blk.0.attn_q/MatMulNBits`) and those of the GenAI
builder (`/model/layers.0/attn/q_proj/MatMulNBits`), whose `qkv_proj` and `gate_up_proj` hold several linear layers
side by side. A product under any other name is not found, and an adapter for it is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

PACKED: Mapping[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
_OWN = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}
_NAMES = (
    re.compile(r"blk\.(\d+)\.(\w+)(?:\.product)?/(?:MatMulNBits|FusedMatMul)"),
    re.compile(r"/model/layers\.(\d+)/(?:attn|mlp)/(\w+_proj)/MatMul\w*"),
)
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "MatMulNBits"})


@dataclass(frozen=True, slots=True)
class Projection:
    """A matrix product `[batch, tokens, inputs] -> [batch, tokens, sum(widths)]` that computes `parts` side by side.

    `output` is what the graph calls its result, `element` the ONNX type of what goes in and out.
    """

    layer: int
    parts: tuple[str, ...]
    widths: tuple[int, ...]
    inputs: int
    output: str
    element: int

    @property
    def a(self) -> str:
        """The input of an edited graph that holds A."""
        return f"shoal.lora.{self.layer}.{'+'.join(self.parts)}.a"

    @property
    def b(self) -> str:
        """The input of an edited graph that holds B."""
        return f"shoal.lora.{self.layer}.{'+'.join(self.parts)}.b"


def find_projections(graph: onnx.GraphProto, kv_width: int) -> tuple[Projection, ...]:
    """All products that are known by name, in the graph's order. `kv_width` is KV heads times head size."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = (_projection(node, weights, kv_width) for node in graph.node if node.op_type in _PRODUCTS)
    return tuple(projection for projection in found if projection is not None)


def _projection(node: onnx.NodeProto, weights: Mapping[str, TensorProto], kv_width: int) -> Projection | None:
    matches = (pattern.fullmatch(node.name) for pattern in _NAMES)
    match = next((match for match in matches if match is not None), None)
    weight = weights.get(node.input[1])
    if match is None or weight is None:
        return None
    name = _OWN.get(match[2], match[2])
    inputs, outputs, element = _sizes(node, weight, weights)
    parts = PACKED.get(name, (name,))
    return Projection(int(match[1]), parts, _widths(parts, outputs, kv_width), inputs, node.output[0], element)


def _sizes(node: onnx.NodeProto, weight: TensorProto, weights: Mapping[str, TensorProto]) -> tuple[int, int, int]:
    """Inputs, outputs and element type of a product."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "MatMulNBits":
        return attributes["K"], attributes["N"], weights[node.input[2]].data_type
    rows, columns = weight.dims
    is_transposed = bool(attributes.get("transB", 0))
    return (columns, rows, weight.data_type) if is_transposed else (rows, columns, weight.data_type)


def _widths(parts: tuple[str, ...], outputs: int, kv_width: int) -> tuple[int, ...]:
    if parts == PACKED["qkv_proj"]:
        return outputs - 2 * kv_width, kv_width, kv_width
    return (outputs // len(parts),) * len(parts)

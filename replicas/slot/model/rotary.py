"""Cuts the rotary caches of a LongRoPE export to the tokens that a slot can hold.

They lie in the branches of an `If`, whose result is copied at every call: for Phi-4-mini's 131072 positions that is 50
MB a token, and some 280 MB of memory in all. A cache that stays outside is mapped and read where it is needed.
"""

import onnx
from onnx import numpy_helper


def shorten_caches(graph: onnx.GraphProto, tokens: int) -> None:
    """Keep the first `tokens` positions of each table `[positions, pairs]` that an `If` of `graph` chooses from."""
    for node in graph.node:
        if node.op_type == "If":
            for branch in node.attribute:
                _shorten(branch.g, tokens)


def _shorten(branch: onnx.GraphProto, tokens: int) -> None:
    outputs = {value.name: value for value in branch.output}
    for node in branch.node:
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if node.op_type != "Constant" or value is None or len(value.dims) != 2 or value.dims[0] <= tokens:
            continue
        value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value)[:tokens].copy(), value.name))
        shape = outputs[node.output[0]].type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_value = tokens

"""The graph with a LoRA term behind every projection: `out = product + (x A) B`, A and B being inputs.

Each row is multiplied by itself. MatMul on the CPU takes another kernel for one row than for several, and how it cuts
several among threads shows in the last bits (measured: any of 1, 3, 4, 5 rows against 64). So x becomes a stack of
one-row matrices, and A has one dimension more than x, or MatMul would flatten the stack: every row then takes the
one-row kernel, in any batch, chunk and number of threads (tests/replicas/test_lora_bits.py).
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from replicas.lora.projections import Projection

_SHAPE = "shoal.lora.shape"


def add_lora(graph: onnx.GraphProto, projections: Sequence[Projection], input_ids: str) -> None:
    """Edit `graph` in place: inputs `a` and `b` for each of its `projections`, of any rank."""
    made = {projection.output: projection for projection in projections}
    edited = _shape(graph, input_ids)
    stacked: set[str] = set()
    for node in graph.node:
        projection = made.get(node.output[0]) if node.output else None
        if projection is None:
            edited.append(node)
            continue
        if node.input[0] not in stacked:
            stacked.add(node.input[0])
            edited.append(_stack(graph, node.input[0], projection.inputs))
        edited += _term(node, projection)
        outputs = sum(projection.widths)
        a, b = [1, 1, projection.inputs, "rank"], [1, 1, 1, "rank", outputs]
        graph.input.append(helper.make_tensor_value_info(projection.a, projection.element, a))
        graph.input.append(helper.make_tensor_value_info(projection.b, projection.element, b))
    del graph.node[:]
    graph.node.extend(edited)


def _shape(graph: onnx.GraphProto, input_ids: str) -> list[onnx.NodeProto]:
    """[batch, tokens, -1]: what a term is brought back to."""
    rest, called = f"{_SHAPE}.rest", f"{_SHAPE}.call"
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), rest))
    return [
        helper.make_node("Shape", [input_ids], [called], name=called),
        helper.make_node("Concat", [called, rest], [_SHAPE], name=_SHAPE, axis=0),
    ]


def _stack(graph: onnx.GraphProto, hidden: str, inputs: int) -> onnx.NodeProto:
    """[batch, tokens, inputs] as [rows, 1, inputs], without a copy."""
    shape = f"{_SHAPE}.{inputs}"
    if all(tensor.name != shape for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, inputs], np.int64), shape))
    return helper.make_node("Reshape", [hidden, shape], [_rows(hidden)], name=_rows(hidden))


def _rows(hidden: str) -> str:
    return f"{hidden}/shoal.lora.rows"


def _term(node: onnx.NodeProto, projection: Projection) -> list[onnx.NodeProto]:
    """`node` under another output name, and what adds the term to that."""
    out = projection.output
    product, inner, term = f"{out}/shoal.lora.product", f"{projection.a}.out", f"{projection.b}.out"
    node.output[0] = product
    return [
        node,
        helper.make_node("MatMul", [_rows(node.input[0]), projection.a], [inner], name=inner),
        helper.make_node("MatMul", [inner, projection.b], [term], name=term),
        helper.make_node("Reshape", [term, _SHAPE], [f"{term}.shaped"], name=f"{term}.shaped"),
        helper.make_node("Add", [product, f"{term}.shaped"], [out], name=f"{out}/shoal.lora.sum"),
    ]

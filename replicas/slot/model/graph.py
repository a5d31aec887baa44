"""The graph as the engine wants it: float32 logits from a position on that each call names, and hidden states.

An exported graph computes logits for every prefilled token (200 MB of floats for 1024 tokens of a 49152 vocabulary).
A slice goes in before the LM head, in memory; the weights stay on disk beside the model. Where it starts is an input,
so one session serves prompts (last position), drafts (all positions) and embeddings (what goes into the head, as an
output of its own). Where the head is not recognised the slice goes in behind it: the same logits, only slower.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

FIRST = "shoal.first"
"""Input int64 [1]: the first position that gets logits, counted from the end if negative."""
HIDDEN = "shoal.hidden"
"""Output float32 [batch, sequence, hidden]: what goes into the LM head. Only where the head is recognised."""

_HEADS = frozenset({"MatMul", "MatMulNBits"})
# What an export may do to logits behind the head, element by element.
_ELEMENTWISE = frozenset({"Cast", "Mul", "Div", "Tanh", "Add"})
_ENDS, _AXES = "shoal.slice.ends", "shoal.slice.axes"


def load_graph(model_file: Path) -> onnx.ModelProto:
    """The graph in `model_file` without its weights: milliseconds, whatever the model's size."""
    model: onnx.ModelProto = onnx.load(model_file, load_external_data=False)
    return model


def engine_graph(model: onnx.ModelProto, logits: str) -> bytes:
    """`model`, edited: output `logits` is float32 [batch, positions from FIRST on, vocab]. Serialized."""
    graph = model.graph
    for name, value in ((_ENDS, 2**63 - 1), (_AXES, 1)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    graph.input.append(helper.make_tensor_value_info(FIRST, TensorProto.INT64, [1]))
    output = next(value for value in graph.output if value.name == logits)
    tensor = output.type.tensor_type
    head = _head(graph, logits)
    if head is not None:
        _slice_input(graph, head)
    if head is None or tensor.elem_type != TensorProto.FLOAT:
        _redo_output(graph, logits, is_sliced=head is not None)
    tensor.elem_type = TensorProto.FLOAT
    tensor.shape.dim[1].Clear()
    tensor.shape.dim[1].dim_param = "shoal_positions"
    del graph.value_info[:]  # shapes noted behind the head would contradict the slice
    serialized: bytes = model.SerializeToString()
    return serialized


def _head(graph: onnx.GraphProto, logits: str) -> onnx.NodeProto | None:
    """The node that turns hidden states into logits, None if the way to it is not understood."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers[logits]
    while node.op_type in _ELEMENTWISE and node.input[0] in makers:
        node = makers[node.input[0]]
    return node if node.op_type in _HEADS and node.input[0] in makers else None


def _slice_input(graph: onnx.GraphProto, head: onnx.NodeProto) -> None:
    whole, last = head.input[0], "shoal.head.input"
    shown = helper.make_node("Cast", [whole], [HIDDEN], name=HIDDEN, to=TensorProto.FLOAT)
    cut = helper.make_node("Slice", [whole, FIRST, _ENDS, _AXES], [last], name=last)
    place = next(index for index, node in enumerate(graph.node) if node is head or node.output == head.output)
    head.input[0] = last
    graph.node.insert(place, shown)
    graph.node.insert(place, cut)
    shape = ["shoal_batch", "shoal_sequence", "shoal_hidden"]
    graph.output.append(helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, shape))


def _redo_output(graph: onnx.GraphProto, logits: str, *, is_sliced: bool) -> None:
    """What the graph called `logits` gets another name; its slice in float32 takes the old one."""
    raw, last = f"{logits}.raw", f"{logits}.last"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == logits:
                node.output[place] = raw
        for place, name in enumerate(node.input):
            if name == logits:
                node.input[place] = raw
    if not is_sliced:
        graph.node.append(helper.make_node("Slice", [raw, FIRST, _ENDS, _AXES], [last], name="shoal.last.logits"))
    source = raw if is_sliced else last
    graph.node.append(helper.make_node("Cast", [source], [logits], name="shoal.last.cast", to=TensorProto.FLOAT))

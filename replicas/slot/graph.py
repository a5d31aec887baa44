"""The graph as the engine wants it: logits of each row's last position alone, in float32.

An exported graph computes logits for every prefilled token (200 MB of floats for 1024 tokens of a 49152 vocabulary).
A slice of the last position goes in before the LM head, in memory; the weights stay on disk beside the model. Where
the head is not recognised the slice goes in behind it: the same result, only slower.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

_HEADS = frozenset({"MatMul", "MatMulNBits"})
# What an export may do to logits behind the head, element by element.
_ELEMENTWISE = frozenset({"Cast", "Mul", "Div", "Tanh", "Add"})
_STARTS, _ENDS, _AXES = "shoal.last.starts", "shoal.last.ends", "shoal.last.axes"


def last_position_graph(model_file: Path, logits: str) -> bytes:
    """The graph in `model_file`, with output `logits` as float32 of shape [batch, 1, vocab], serialized."""
    model = onnx.load(model_file, load_external_data=False)
    graph = model.graph
    for name, value in ((_STARTS, -1), (_ENDS, 2**63 - 1), (_AXES, 1)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    output = next(value for value in graph.output if value.name == logits)
    tensor = output.type.tensor_type
    head = _head(graph, logits)
    if head is not None:
        _slice_input(graph, head)
    if head is None or tensor.elem_type != TensorProto.FLOAT:
        _redo_output(graph, logits, is_sliced=head is not None)
    tensor.elem_type = TensorProto.FLOAT
    tensor.shape.dim[1].Clear()
    tensor.shape.dim[1].dim_value = 1
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
    hidden = "shoal.last.hidden"
    cut = helper.make_node("Slice", [head.input[0], _STARTS, _ENDS, _AXES], [hidden], name=hidden)
    place = next(index for index, node in enumerate(graph.node) if node is head or node.output == head.output)
    head.input[0] = hidden
    graph.node.insert(place, cut)


def _redo_output(graph: onnx.GraphProto, logits: str, *, is_sliced: bool) -> None:
    """What the graph called `logits` gets another name; its last position in float32 takes the old one."""
    raw, last = f"{logits}.raw", f"{logits}.last"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == logits:
                node.output[place] = raw
        for place, name in enumerate(node.input):
            if name == logits:
                node.input[place] = raw
    if not is_sliced:
        graph.node.append(helper.make_node("Slice", [raw, _STARTS, _ENDS, _AXES], [last], name="shoal.last.logits"))
    source = raw if is_sliced else last
    graph.node.append(helper.make_node("Cast", [source], [logits], name="shoal.last.cast", to=TensorProto.FLOAT))

"""Where a graph with LongRoPE changes from its short rotary cache to its long one (Phi-3-*-128k, Phi-4-mini).

Such an export holds two caches and takes one for the WHOLE call: `attention_mask -> Shape -> Gather -> Greater -> If`.
The number that the mask's width is compared with is the switch: calls of at most so many tokens take the short cache.
It is read from the graph, as it is the model's original context and no file of the export names it.
"""

import math
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from replicas.errors import ModelImportError


def rope_switch(graph: onnx.GraphProto, attention_mask: str, folder: Path) -> int | None:
    """The longest mask that still takes the short cache; None for a graph with one cache.

    `folder` holds the graph's external data. Raises ModelImportError for a graph that branches on anything else:
    which of its rows may share a call cannot be told.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found = {_switch(graph, makers, node, attention_mask, folder) for node in graph.node if node.op_type == "If"}
    if not found:
        return None
    switch = found.pop()
    if switch is None or found:
        reason = "the graph branches on something other than one length of its mask; export a plain text decoder"
        raise ModelImportError(str(folder), reason)
    return switch


def _switch(
    graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto], branch: onnx.NodeProto, mask: str, folder: Path
) -> int | None:
    compare = makers.get(branch.input[0])
    if compare is None or compare.op_type != "Greater":
        return None
    gather = makers.get(compare.input[0])
    shape = makers.get(gather.input[0]) if gather is not None and gather.op_type == "Gather" else None
    if gather is None or shape is None or (shape.op_type, list(shape.input)) != ("Shape", [mask]):
        return None
    axis = _constant(graph, makers, gather.input[1], folder)
    return _constant(graph, makers, compare.input[1], folder) if axis == 1 else None


def _constant(graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto], name: str, folder: Path) -> int | None:
    """The one number called `name`, made by a Constant node or kept as an initializer, inside the file or beside it."""
    node = makers.get(name)
    values = [attribute.t for attribute in node.attribute if attribute.name == "value"] if node is not None else []
    values += [tensor for tensor in graph.initializer if tensor.name == name]
    if len(values) != 1 or (node is not None and node.op_type != "Constant"):
        return None
    tensor = values[0]
    if math.prod(tensor.dims) != 1:
        return None
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        load_external_data_for_tensor(tensor, str(folder))
    return int(numpy_helper.to_array(tensor).item())

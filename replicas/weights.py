"""Which files beside a graph hold its weights, and how long each must be. Read from the graph alone: milliseconds."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import GraphProto, TensorProto


def weight_files(model_file: Path) -> dict[str, int]:
    """File name -> where its last weight ends, in bytes. Empty if the graph holds its weights. Raises OSError."""
    needed: dict[str, int] = {}
    for name, end in _ends(onnx.load(model_file, load_external_data=False).graph):
        needed[name] = max(end, needed.get(name, 0))
    return needed


def _ends(graph: GraphProto) -> Iterator[tuple[str, int]]:
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            yield entries["location"], int(entries.get("offset", 0)) + int(entries.get("length", 0))

"""An adapter's A and B as inputs of the edited graph: fitted to its projections, the scale inside B.

Where graph and adapter pack their linear layers differently (`qkv_proj` here, `q_proj` there), B is a block matrix
over the common parts: the same sums, some terms of them zero. A projection that the adapter leaves alone gets a rank
of one with zeros, for the graph adds its term in any case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from replicas.errors import ModelImportError
from replicas.export import Export
from replicas.lora.peft import Factors, PeftAdapter, read_peft
from replicas.lora.projections import PACKED, Projection, find_projections

Array = NDArray[np.float32] | NDArray[np.float16]
_HALF = onnx.TensorProto.FLOAT16


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """Arrays by the name of the graph's input: A [1, 1, inputs, rank], B [1, 1, 1, rank, outputs]."""

    arrays: dict[str, Array]

    @classmethod
    def read(cls, path: Path, export: Export) -> "LoraWeights":
        """The adapter in the directory `path`, fitted to `export`. Raises ModelImportError."""
        graph = onnx.load(export.model_file, load_external_data=False).graph
        return cls.fit(read_peft(path), find_projections(graph, export.kv_heads * export.head_size))

    @classmethod
    def fit(cls, adapter: PeftAdapter, projections: Sequence[Projection]) -> "LoraWeights":
        """`adapter` on a graph with these `projections`. Raises ModelImportError unless all of it has a place."""
        parts = _parts(adapter, projections)
        arrays: dict[str, Array] = {}
        for projection in projections:
            a, b = _side_by_side([parts.get((projection.layer, part)) for part in projection.parts], projection)
            arrays[projection.a] = _as_element(a.T, projection)[None, None]
            arrays[projection.b] = _as_element(b.T, projection)[None, None, None]
        return cls(arrays)


def _parts(adapter: PeftAdapter, projections: Sequence[Projection]) -> dict[tuple[int, str], Factors]:
    """What the adapter adds to each linear layer, packed ones taken apart (their parts share one A)."""
    sizes = {
        (projection.layer, part): (projection.inputs, width)
        for projection in projections
        for part, width in zip(projection.parts, projection.widths, strict=True)
    }
    parts = {}
    for (layer, module), factors in adapter.modules.items():
        names = PACKED.get(module, (module,))
        places = [sizes.get((layer, name)) for name in names]
        found = [place for place in places if place is not None]
        if len(found) < len(names):
            reason = f"it targets layer {layer}, {module}, which this model's graph does not have"
            raise ModelImportError(str(adapter.path), reason)
        wanted = (found[0][0], sum(width for _, width in found))
        has = (factors.a.shape[1], factors.b.shape[0])
        if has != wanted:
            reason = (
                f"layer {layer}, {module} maps {has[0]} numbers to {has[1]}, in this model {wanted[0]} to {wanted[1]}"
            )
            raise ModelImportError(str(adapter.path), f"{reason}: it was made for another model")
        ends = list(accumulate(width for _, width in found))
        for name, b in zip(names, np.split(factors.b, ends[:-1]), strict=True):
            parts[layer, name] = Factors(factors.a, b)
    return parts


def _side_by_side(
    parts: Sequence[Factors | None], projection: Projection
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A [rank, inputs] and B [outputs, rank] of a projection, whose parts may share an A."""
    starts = [0, *accumulate(projection.widths)]
    shared = {id(part.a): part.a for part in parts if part is not None}
    if not shared:
        return np.zeros((1, projection.inputs), np.float32), np.zeros((starts[-1], 1), np.float32)
    blocks = []
    for a in shared.values():
        block = np.zeros((starts[-1], len(a)), np.float32)
        for part, start in zip(parts, starts[:-1], strict=True):
            if part is not None and part.a is a:
                block[start : start + len(part.b)] = part.b
        blocks.append(block)
    return np.concatenate(list(shared.values())), np.concatenate(blocks, axis=1)


def _as_element(matrix: NDArray[np.float32], projection: Projection) -> Array:
    if projection.element == _HALF:
        return np.ascontiguousarray(matrix.astype(np.float16))
    return np.ascontiguousarray(matrix)

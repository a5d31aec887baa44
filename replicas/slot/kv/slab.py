"""The KV cache: one buffer a layer and side, `[slots, kv_heads, max_len, head_size]`, in the device's memory.

A range of rows is bound by raw pointer both as past and as present, so that attention appends in place. On the CPU
the buffers are anonymous maps: the system commits their pages only as rows fill, and an unused row costs address
space alone (`np.empty` asks for huge pages, which commit 2 MB for the first token of every head). On a device
onnxruntime allocates them, and rows are moved by a graph of Identity nodes: Python has no other device-to-device copy
at an offset.
"""

import mmap
from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from replicas.export import Export
from replicas.slot.place import Provider


class KvSlab:
    """Rows of KV cache in the memory of `provider`."""

    def __init__(self, export: Export, rows: int, max_len: int, provider: Provider) -> None:
        self._export = export
        self._device = provider.device
        self._row_shape = (export.kv_heads, max_len, export.head_size)
        self._dtype = np.dtype(export.kv_element)
        shape = (rows, *self._row_shape)
        self._row_bytes = int(np.prod(self._row_shape)) * self._dtype.itemsize
        self._arrays: list[NDArray[np.float32]] = []
        self._values: list[ort.OrtValue] = []
        if provider.is_host:
            self._arrays = [committed_lazily(shape, self._dtype) for _ in range(2 * export.layers)]
            self._pointers = [array.ctypes.data for array in self._arrays]
        else:
            make = ort.OrtValue.ortvalue_from_shape_and_type
            self._values = [make(shape, self._dtype, provider.device, 0) for _ in range(2 * export.layers)]
            self._pointers = [value.data_ptr() for value in self._values]
            self._mover = _mover(export, self._row_shape, provider.ort_name)
        self.size_bytes = rows * self._row_bytes * 2 * export.layers
        self.token_bytes = export.kv_token_bytes

    @property
    def arrays(self) -> list[NDArray[np.float32]]:
        """`[rows, kv_heads, max_len, head_size]` for each layer's keys and values; none in a device's memory."""
        return self._arrays

    def bind(self, binding: ort.IOBinding, row: int, rows: int) -> None:
        """Bind rows `[row, row + rows)` as past and, in place, as present."""
        shape = (rows, *self._row_shape)
        for (past, present), pointer in zip(self._names(), self._pointers, strict=True):
            at = pointer + row * self._row_bytes
            binding.bind_input(past, self._device, 0, self._dtype, shape, at)
            binding.bind_output(present, self._device, 0, self._dtype, shape, at)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` positions of row `source` to row `target`."""
        if self._arrays:
            for array in self._arrays:
                array[target, :, :tokens] = array[source, :, :tokens]
            return
        binding = self._mover.io_binding()
        shape = (1, *self._row_shape)
        for place, pointer in enumerate(self._pointers):
            base = self._row_bytes
            binding.bind_input(f"from{place}", self._device, 0, self._dtype, shape, pointer + source * base)
            binding.bind_output(f"to{place}", self._device, 0, self._dtype, shape, pointer + target * base)
        self._mover.run_with_iobinding(binding)

    def close(self) -> None:
        """Free the buffers; nothing may be bound to them any more."""
        self._arrays.clear()
        self._values.clear()
        self._pointers.clear()

    def _names(self) -> Iterator[tuple[str, str]]:
        names = self._export.names
        for layer in range(self._export.layers):
            for past, present in zip(names.past, names.present, strict=True):
                yield past % layer, present % layer


def committed_lazily(shape: tuple[int, ...], dtype: np.dtype[np.float32]) -> NDArray[np.float32]:
    """A zeroed array whose pages are committed one by one as they are written."""
    memory = mmap.mmap(-1, int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(memory, dtype).reshape(shape)


def _mover(export: Export, row_shape: tuple[int, ...], provider: str) -> ort.InferenceSession:
    element = TensorProto.FLOAT if export.kv_element == "float32" else TensorProto.FLOAT16
    places = range(2 * export.layers)
    sides = {
        side: [helper.make_tensor_value_info(f"{side}{place}", element, [1, *row_shape]) for place in places]
        for side in ("from", "to")
    }
    nodes = [helper.make_node("Identity", [f"from{place}"], [f"to{place}"]) for place in places]
    graph = helper.make_graph(nodes, "move", sides["from"], sides["to"])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=[provider])

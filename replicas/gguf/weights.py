"""Places a GGUF file's tensors in the data file and says how each is read, a piece of rows at a time.

A matrix is quantized in blocks of 32 inputs; one whose inputs are no multiple of 32 stays in 32-bit floats. A piece is
a quarter of a million weights, in whole heads where llama.cpp has reordered the rows of a head for its interleaved
rotary embedding: there the even ones go first again, as GroupQueryAttention rotates halves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from replicas.errors import ModelImportError
from replicas.gguf.blocks import BLOCK, Bytes, Floats, bits, floats, pack
from replicas.gguf.datafile import DataFile, Piece
from replicas.gguf.header import CUT_OFF, Header, Tensor
from replicas.gguf.llama import Llama

PIECE_WEIGHTS = 1 << 18  # 1 MB of floats: stays in the cache between the passes over it


@dataclass(frozen=True, slots=True)
class Matrix:
    """A placed weight [outputs, inputs] and its initializers: `bits` 32 is floats, less is quantized with scales."""

    values: str
    scales: str
    outputs: int
    inputs: int
    bits: int
    offset: int
    scales_offset: int = 0


class Weights:
    """The tensors of one file, on their way into `data`."""

    def __init__(self, header: Header, model: Llama, data: DataFile) -> None:
        self._header = header
        self._model = model
        self._data = data

    def __contains__(self, name: str) -> bool:
        return name in self._header.tensors

    def matrix(self, name: str, heads: int = 0) -> Matrix:
        """Place the tensor `name`; with `heads`, its rows are put back in the order of a rotary embedding by halves."""
        order = halves_order(self._model) if heads else np.arange(1)
        return self._place(self._header.tensors[name], order, is_table=False)

    def table(self, name: str) -> Matrix:
        """Place the tensor `name` as rows to look up, which GatherBlockQuantized wants without the axis of blocks."""
        return self._place(self._header.tensors[name], np.arange(1), is_table=True)

    def table_as_matrix(self, table: Matrix) -> Matrix:
        """The bytes of a table once more, as a matrix to multiply by."""
        if table.bits == 32:
            return table
        matrix = replace(table, values=f"{table.values}.blocks")
        shape = (table.outputs, table.inputs // BLOCK, BLOCK * table.bits // 8)
        self._data.view(matrix.values, "uint8", shape, table.offset)
        return matrix

    def vector(self, name: str, heads: int = 0) -> Floats | None:
        """A norm, a bias or rotary factors as floats; None when the file has no such tensor."""
        tensor = self._header.tensors.get(name)
        if tensor is None:
            return None
        with self._header.path.open("rb") as stream:
            stream.seek(tensor.offset)
            raw = _bytes(stream, tensor.size_bytes, self._header.path)
        values: Floats = floats(raw[None], tensor.type)[0]
        if not np.isfinite(values).all():
            raise ModelImportError(str(self._header.path), f"tensor {name} holds values that are no numbers")
        if heads:
            values = values.reshape(heads, -1)[:, halves_order(self._model)].reshape(-1)
        return values

    def _place(self, tensor: Tensor, order: NDArray[np.intp], is_table: bool) -> Matrix:
        (outputs, inputs), name = tensor.shape, tensor.name
        if inputs % BLOCK:
            placed = Matrix(name, "", outputs, inputs, 32, self._data.place(name, "float32", tensor.shape))
        else:
            width, blocks, scales = bits(tensor.type), inputs // BLOCK, f"{name}.scales"
            shape = (outputs, inputs * width // 8) if is_table else (outputs, blocks, BLOCK * width // 8)
            offset = self._data.place(name, "uint8", shape)
            scales_offset = self._data.place(scales, "float32", (outputs, blocks))
            placed = Matrix(name, scales, outputs, inputs, width, offset, scales_offset)
        self._data.fill_from(lambda: self._pieces(tensor, placed, order))
        return placed

    def _pieces(self, tensor: Tensor, placed: Matrix, order: NDArray[np.intp]) -> Iterator[Piece]:
        row_bytes = tensor.size_bytes // placed.outputs
        rows = max(1, PIECE_WEIGHTS // (placed.inputs * len(order))) * len(order)
        with self._header.path.open("rb") as stream:
            stream.seek(tensor.offset)
            for first in range(0, placed.outputs, rows):
                count = min(rows, placed.outputs - first)
                raw = _bytes(stream, count * row_bytes, self._header.path)
                raw = raw.reshape(-1, len(order), row_bytes)[:, order].reshape(count, row_bytes)
                yield from self._convert(raw, tensor, placed, first)

    def _convert(self, raw: Bytes, tensor: Tensor, placed: Matrix, first: int) -> Iterator[Piece]:
        """One piece's rows, the first of them row `first` of the matrix."""
        blocks = placed.inputs // BLOCK
        if placed.bits == 32:
            scales = values = floats(raw, tensor.type)
            yield Piece(placed.offset + first * placed.inputs * 4, values, raw.nbytes)
        else:
            packed, scales = pack(raw, tensor.type)
            yield Piece(placed.offset + first * placed.inputs * placed.bits // 8, packed, raw.nbytes)
            yield Piece(placed.scales_offset + first * blocks * 4, scales)
        if not np.isfinite(scales).all():
            raise ModelImportError(str(self._header.path), f"tensor {tensor.name} holds values that are no numbers")


def halves_order(model: Llama) -> NDArray[np.intp]:
    """Which of llama.cpp's rows comes where in a head: rotated pairs (2i, 2i+1) become (i, i + half)."""
    rotated = np.arange(model.rope_size)
    return np.concatenate([rotated[0::2], rotated[1::2], np.arange(model.rope_size, model.head_size)])


def _bytes(stream: BinaryIO, count: int, path: Path) -> Bytes:
    """The next bytes, unless the file has become shorter since its header was checked."""
    data = stream.read(count)
    if len(data) != count:
        raise ModelImportError(str(path), CUT_OFF)
    return np.frombuffer(data, np.uint8)

"""The external data file of an ONNX model: first laid out, then filled in pieces.

Laying out needs only shapes, so the graph is complete, and the disk space known, before a weight is read; filling then
holds one piece in memory however large the tensor. Two initializers may be views of the same bytes, which is how a tied
embedding is stored once. Offsets are multiples of 4096 so that ONNX Runtime can map the file.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

ALIGNMENT_BYTES = 4096
DATA_TYPES = {"uint8": (TensorProto.UINT8, 1), "float32": (TensorProto.FLOAT, 4)}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes for one place in the file, and how many source bytes they were made of."""

    offset: int
    data: NDArray[np.uint8] | NDArray[np.float32]
    source_bytes: int = 0


Source: TypeAlias = Callable[[], Iterator[Piece]]


class DataFile:
    """Collects initializers and what fills them. `size_bytes` is the size that the file will have."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size_bytes = 0
        self.initializers: list[TensorProto] = []
        self._sources: list[Source] = []

    def place(self, name: str, dtype: str, shape: tuple[int, ...]) -> int:
        """Declare initializer `name` at the end of the file; its offset."""
        offset = -(-self.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.size_bytes = offset + self.view(name, dtype, shape, offset)
        return offset

    def view(self, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> int:
        """Declare initializer `name` over bytes that are already placed; its length in bytes."""
        data_type, item_bytes = DATA_TYPES[dtype]
        size_bytes = math.prod(shape) * item_bytes
        tensor = TensorProto(name=name, data_type=data_type, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.name), ("offset", str(offset)), ("length", str(size_bytes))):
            tensor.external_data.add(key=key, value=value)
        self.initializers.append(tensor)
        return size_bytes

    def fill_from(self, source: Source) -> None:
        """Have `write` take the pieces of `source`; they must lie within placed initializers."""
        self._sources.append(source)

    def write(self, directory: Path, written: Callable[[int], None]) -> None:
        """Write the file into `directory`; `written` hears how many source bytes each piece was made of."""
        with (directory / self.name).open("wb") as stream:
            for source in self._sources:
                for piece in source():
                    _write(stream, piece)
                    written(piece.source_bytes)
            stream.truncate(self.size_bytes)


def _write(stream: BinaryIO, piece: Piece) -> None:
    stream.seek(piece.offset)
    stream.write(np.ascontiguousarray(piece.data).data)

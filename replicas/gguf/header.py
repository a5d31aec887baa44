"""What a GGUF file says ahead of its weights: metadata, and where each tensor lies.

Every count and length is held against the size of the file before it is used, so a damaged or hostile header ends in
a ModelImportError, never in a hang or an allocation. The `gguf` package's reader trusts those counts (a long array in a
cut-off file makes it loop) and needs 3 s for 49k tokens; this takes 0.1 s, and a test holds the two against each other.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from replicas.errors import ModelImportError
from replicas.gguf.metadata import Metadata, Scalar, Value

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 1 << 22  # of an array, of the metadata, of the tensor list; the largest vocabularies have 2^18
DEFAULT_ALIGNMENT_BYTES = 32

STRING, ARRAY = 8, 9
SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}

CUT_OFF = "the file ends too early: it was not downloaded whole; fetch it again"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. `shape` is rows first, as numpy has it; `offset` counts from the start of the file, in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's metadata and its tensors by name."""

    path: Path
    metadata: Metadata
    tensors: Mapping[str, Tensor]


class Cursor:
    """Reads forward through the header, never past the end of the file."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.position = 0
        self.size_bytes = path.stat().st_size
        self._stream = stream

    def take(self, count: int) -> bytes:
        if count > self.size_bytes - self.position:
            raise ModelImportError(str(self.path), CUT_OFF)
        data = self._stream.read(count)
        if len(data) != count:
            raise ModelImportError(str(self.path), CUT_OFF)
        self.position += count
        return data

    def whole(self, size_bytes: int) -> int:
        """An unsigned integer of 4 or 8 bytes."""
        return int.from_bytes(self.take(size_bytes), "little")

    def count(self, what: str) -> int:
        number = self.whole(8)
        if number > MAX_ENTRIES:
            raise ModelImportError(
                str(self.path), f"its header claims {number} {what}: the file is damaged; fetch it again"
            )
        return number

    def string(self) -> str:
        try:
            return self.take(self.whole(8)).decode()
        except UnicodeDecodeError as error:
            raise ModelImportError(str(self.path), "its header holds text that is not UTF-8: it is damaged") from error

    def scalar(self, kind: int) -> Scalar:
        if kind == STRING:
            return self.string()
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: int, count: int) -> list[int] | list[float]:
        if kind not in SCALARS:
            raise ModelImportError(str(self.path), f"its header holds a value of unknown kind {kind}: it is damaged")
        dtype = np.dtype(SCALARS[kind])
        values: list[int] | list[float] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return values

    def value(self) -> Value:
        kind = self.whole(4)
        if kind != ARRAY:
            return self.scalar(kind)
        item, count = self.whole(4), self.count("array entries")
        return [self.string() for _ in range(count)] if item == STRING else self.numbers(item, count)


def read_header(path: Path) -> Header:
    """Read and check the header of `path`. Raises ModelImportError when it is no whole, readable GGUF file."""
    try:
        with path.open("rb") as stream:
            cursor = Cursor(path, stream)
            tensor_count, entry_count = _preamble(cursor)
            entries: dict[str, Value] = {}
            for _ in range(entry_count):
                key = cursor.string()
                if key in entries:
                    raise ModelImportError(str(path), f"metadata {key!r} comes twice: the file is damaged")
                entries[key] = cursor.value()
            metadata = Metadata(path, entries)
            infos = [_tensor_info(cursor) for _ in range(tensor_count)]
            return Header(path, metadata, _locate(cursor, metadata, infos))
    except OSError as error:
        raise ModelImportError(str(path), f"it cannot be read ({error.strerror})") from error


def _preamble(cursor: Cursor) -> tuple[int, int]:
    """Check magic and version; the counts of tensors and of metadata entries."""
    path = str(cursor.path)
    if cursor.size_bytes < 24 or cursor.take(4) != MAGIC:
        raise ModelImportError(path, "it is not a GGUF file (it does not begin with 'GGUF')")
    version = cursor.whole(4)
    if version & 0xFFFF == 0:
        raise ModelImportError(path, "it is a big-endian GGUF file; only little-endian ones are supported")
    if version not in VERSIONS:
        raise ModelImportError(path, f"it is GGUF version {version}; versions 2 and 3 are supported")
    return cursor.count("tensors"), cursor.count("metadata entries")


def _tensor_info(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (rows first), ggml type and offset within the data of one tensor."""
    name = cursor.string()
    axes = cursor.whole(4)
    if not 1 <= axes <= 4:
        raise ModelImportError(str(cursor.path), f"tensor {name} has {axes} axes: the file is damaged; fetch it again")
    sizes = struct.unpack(f"<{axes}Q", cursor.take(8 * axes))
    return name, tuple(reversed(sizes)), cursor.whole(4), cursor.whole(8)


def _locate(
    cursor: Cursor, metadata: Metadata, infos: list[tuple[str, tuple[int, ...], int, int]]
) -> dict[str, Tensor]:
    """Turn offsets within the data into offsets within the file, and check that the file holds every tensor whole."""
    path = str(cursor.path)
    alignment = metadata.integer("general.alignment", DEFAULT_ALIGNMENT_BYTES)
    if alignment <= 0 or alignment & (alignment - 1):
        raise ModelImportError(path, f"its alignment of {alignment} is not a power of two: the file is damaged")
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, shape, kind, offset in infos:
        try:
            ggml_type = GGMLQuantizationType(kind)
        except ValueError as error:
            raise ModelImportError(path, f"tensor {name} has the unknown type {kind}") from error
        weights, block_bytes = GGML_QUANT_SIZES[ggml_type]
        if name in tensors or shape[-1] % weights:
            raise ModelImportError(path, f"tensor {name} is listed twice or in a shape that cannot be: it is damaged")
        size_bytes = math.prod(shape) // weights * block_bytes
        if start + offset + size_bytes > cursor.size_bytes:
            short = start + offset + size_bytes - cursor.size_bytes
            raise ModelImportError(path, f"{CUT_OFF} (tensor {name} lacks {short} bytes)")
        tensors[name] = Tensor(name, ggml_type.name, shape, start + offset, size_bytes)
    return tensors

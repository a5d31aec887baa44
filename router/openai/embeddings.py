"""The embeddings dialect: texts or token ids in, unit vectors out.

A vector can be cut to `dimensions`: it is scaled to length 1 again, as the real API does. `base64` is the vector's
float32 numbers, little-endian; the Python SDK asks for it unasked and unpacks it.
"""

import math
import struct
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from replicas.errors import InvalidRequest
from router import sse
from router.body import INT32_MAX, Count, Wire, read
from router.shapes import Prompts

MOST_INPUTS = 2048  # the real API's bound too

Encoding = Literal["float", "base64"]
Input = str | tuple[int, ...]
Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class EmbeddingsCall:
    """What a caller wants embedded. `model` None takes the default, `dimensions` None the whole vector."""

    model: str | None
    inputs: tuple[Input, ...]
    encoding: Encoding = "float"
    dimensions: int | None = None

    def place(self, index: int) -> str:
        """How an input is called in an error."""
        return f"input[{index}]" if len(self.inputs) > 1 else "input"


class EmbeddingsBody(Wire):
    """The body of /v1/embeddings."""

    model: str | None = None
    input: Prompts
    encoding_format: Encoding | None = None
    dimensions: Annotated[Count, Field(le=INT32_MAX)] | None = None


def parse_embeddings(body: bytes) -> EmbeddingsCall:
    """Read a request. Raises InvalidRequest with the field in `param`."""
    request = read(EmbeddingsBody, body)
    inputs = _inputs(request.input)
    return EmbeddingsCall(request.model or None, inputs, request.encoding_format or "float", request.dimensions)


def shortened(vector: Vector, dimensions: int | None) -> Vector:
    """The first `dimensions` numbers of `vector`, scaled to length 1. Raises InvalidRequest if it has fewer."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        words = f"dimensions: at most {len(vector)}, which is the size of this model's vectors"
        raise InvalidRequest(words, "dimensions")
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    return [number / length for number in kept] if length else kept


def embeddings_body(model: str, vectors: Sequence[Vector], prompt_tokens: int, encoding: Encoding) -> bytes:
    """The body of the answer; `vectors` are in the order of the inputs."""
    data: list[sse.Json] = [
        {"object": "embedding", "index": index, "embedding": _written(vector, encoding)}
        for index, vector in enumerate(vectors)
    ]
    usage: sse.Json = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return sse.encoded({"object": "list", "data": data, "model": model, "usage": usage})


def _written(vector: Vector, encoding: Encoding) -> sse.Json:
    if encoding == "float":
        return list(vector)
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _inputs(value: object) -> tuple[Input, ...]:
    """A string, a list of strings, a list of token ids, or a list of lists of them, always as a tuple of inputs."""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int)):
        return (_input(value, "input"),)
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_INPUTS:
        words = f"input: must be a string, token ids, or a list of 1 to {MOST_INPUTS} of either"
        raise InvalidRequest(words, "input")
    return tuple(_input(item, f"input[{index}]") for index, item in enumerate(value))


def _input(value: object, where: str) -> Input:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(type(i) is int for i in value):
        return tuple(value)  # the engine knows its vocabulary
    raise InvalidRequest(f"{where}: must be a string or a list of token ids, and not empty", where)

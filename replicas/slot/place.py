"""The places a model can run on, best first."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Device: TypeAlias = Literal["cpu", "cuda", "dml", "webgpu"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A place to run: `name` in settings and metrics, onnxruntime's own name, and the device of its memory.

    `is_host`: numpy can reach that memory, so the KV slab is made and moved without onnxruntime.
    """

    name: str
    ort_name: str
    device: Device
    is_host: bool = False


CPU = Provider("cpu", "CPUExecutionProvider", "cpu", is_host=True)
PREFERENCE = (
    Provider("cuda", "CUDAExecutionProvider", "cuda"),
    Provider("dml", "DmlExecutionProvider", "dml"),
    Provider("webgpu", "WebGpuExecutionProvider", "webgpu"),
    CPU,
)

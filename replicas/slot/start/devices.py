"""Whether there is a device behind a provider, why not, and how much of its memory is free.

A build of onnxruntime with CUDA lists that provider on every machine. Without its libraries or without a GPU a session
opens on the CPU instead, after the whole model was loaded, with the reason on stderr alone. So a graph of one node is
tried first, which takes milliseconds, and the loader and the driver are asked for the reason in their own words.
"""

import ctypes
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from replicas.errors import EngineFailed
from replicas.slot.place import Provider

_IS_WINDOWS = sys.platform == "win32"
_DRIVER = "nvcuda.dll" if _IS_WINDOWS else "libcuda.so.1"
_LIBRARIES = (
    ("onnxruntime_providers_shared.dll", "onnxruntime_providers_cuda.dll")
    if _IS_WINDOWS
    else ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
)
_CUDA_WORDS = {
    2: "out of memory",
    3: "the driver is not initialised",
    35: "the driver is older than the CUDA libraries; update it",
    100: "no GPU is visible to this process",
    101: "there is no such GPU",
    802: "the GPUs are not ready yet (fabric manager)",
    803: "driver and kernel module are of different versions; reboot, or reinstall the driver",
    804: "the CUDA libraries do not go with this driver",
}


def require_device(provider: Provider) -> None:
    """Run one node on `provider`. Raises EngineFailed with the reason and what mends it. Host memory needs no trial."""
    if provider.is_host:
        return
    if provider.device == "cuda":
        require_cuda()
    try:
        is_there = _runs_one_node(provider)
    except Exception as error:
        raise EngineFailed(f"{provider.name} cannot run a graph of one node ({_one_line(error)})") from error
    if not is_there:
        raise EngineFailed(f"{provider.name} is in this build, but onnxruntime gave the CPU instead: no device for it")


def require_cuda() -> None:
    """Load what CUDA needs. Raises EngineFailed naming the library that is missing, or what the driver says."""
    cuda_free_bytes()
    with redirect_stdout(io.StringIO()):  # it prints what it misses; the loader says that better below
        ort.preload_dlls()  # CUDA from NVIDIA's own wheels, where installed; the system's otherwise
    folder = Path(ort.__file__).parent / "capi"
    try:
        for library in _LIBRARIES:
            ctypes.CDLL(str(folder / library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        fix = "install the CUDA and cuDNN versions that this onnxruntime-gpu was built for"
        raise EngineFailed(f"the CUDA provider cannot be loaded ({_one_line(error)}); {fix}") from error


def free_bytes(provider: Provider) -> int | None:
    """Free memory of the device of `provider`; None where nobody tells (DirectML, WebGPU) or it is the host's."""
    return cuda_free_bytes() if provider.device == "cuda" else None


def cuda_free_bytes() -> int:
    """Free memory of the first GPU that is visible, asked of the driver. Raises EngineFailed without one.

    The driver's own library heeds CUDA_VISIBLE_DEVICES, which nvidia-smi does not. The context that it needs is the
    primary one, which onnxruntime uses as well.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        fix = "install it, or onnxruntime instead of onnxruntime-gpu"
        raise EngineFailed(f"there is no NVIDIA driver ({_one_line(error)}); {fix}") from error
    device, context, popped = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _check(driver.cuInit(0), "cuInit")
    _check(driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    try:
        _check(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        _check(driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "cuMemGetInfo")
        _check(driver.cuCtxPopCurrent_v2(ctypes.byref(popped)), "cuCtxPopCurrent")
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value


def _check(status: int, call: str) -> None:
    if status:
        words = _CUDA_WORDS.get(status, "see the CUDA driver API's CUresult")
        raise EngineFailed(f"the NVIDIA driver says {status} to {call}: {words}")


def _runs_one_node(provider: Provider) -> bool:
    """Whether `provider` itself ran a node, and not the CPU in its place."""
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", [shape], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=[provider.ort_name], enable_fallback=False
    )
    if session.get_providers()[0] != provider.ort_name:
        return False
    (doubled,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    return bool((doubled == [0, 2, 4, 6]).all())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

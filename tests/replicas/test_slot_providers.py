"""Where the model runs: the best provider that works, and why the better ones did not."""

import shutil
from pathlib import Path

import pytest

from replicas.errors import EngineFailed, SettingsError
from replicas.export import Export
from replicas.slot.place import CPU, PREFERENCE, Provider
from replicas.slot.start import devices
from replicas.slot.start.providers import available, candidates, first_working, open_session
from tests.replicas.engines import tiny

ALL = [provider.ort_name for provider in PREFERENCE]
CUDA = PREFERENCE[0]


def pass_all(provider: Provider) -> None:
    """Every device is there."""


def on_cpu_alone(provider: Provider) -> str:
    if provider is not CPU:
        raise RuntimeError(f"{provider.name}:\n  driver too old")
    return "made"


def test_the_best_provider_comes_first_and_a_named_one_stands_alone() -> None:
    assert [provider.name for provider in candidates(None, ALL)] == ["cuda", "dml", "webgpu", "cpu"]
    assert [provider.name for provider in candidates("cpu", ALL)] == ["cpu"]
    with pytest.raises(SettingsError, match="which has: cpu"):
        candidates("cuda", [CPU.ort_name])


def test_a_provider_that_fails_gives_way_and_its_reason_is_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    working = first_working(candidates(None, [CUDA.ort_name, CPU.ort_name]), on_cpu_alone, pass_all)
    assert (working.provider, working.made) == (CPU, "made")
    assert working.fallbacks == (("cuda", "cuda: driver too old"),)
    assert "provider cuda does not work: cuda: driver too old" in caplog.text


def test_a_named_provider_that_fails_is_not_replaced() -> None:
    with pytest.raises(EngineFailed, match="no provider can run the model; cuda: cuda: driver too old"):
        first_working(candidates("cuda", ALL), on_cpu_alone, pass_all)


def test_a_missing_device_is_found_out_before_the_model_is_loaded() -> None:
    attempts: list[str] = []

    def missing(provider: Provider) -> None:
        if provider is not CPU:
            raise EngineFailed("no GPU is visible to this process")

    working = first_working(candidates(None, ALL), lambda provider: attempts.append(provider.name), missing)
    assert attempts == ["cpu"]
    assert [name for name, _ in working.fallbacks] == ["cuda", "dml", "webgpu"]


def test_one_node_runs_on_the_cpu_and_the_host_needs_no_trial() -> None:
    assert devices._runs_one_node(CPU)
    devices.require_device(CPU)
    assert devices.free_bytes(CPU) is None


def test_a_session_that_cannot_be_opened_says_why_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny().directory, tmp_path / "model"))
    export = Export.load(folder)
    (folder / "model.onnx.data").unlink()
    with pytest.raises(Exception, match=r"model\.onnx\.data"):
        open_session(export, CPU, 1, is_spinning=False)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(CUDA.ort_name in available(), reason="this onnxruntime has CUDA, which may work")
def test_without_cuda_the_reason_names_what_is_missing_and_the_fix() -> None:
    with pytest.raises(EngineFailed, match=r"(no NVIDIA driver|cannot be loaded|driver says).*(install|GPU)"):
        devices.require_device(CUDA)


@pytest.mark.skipif(CUDA.ort_name not in available(), reason="this onnxruntime has no CUDA")
def test_a_gpu_runs_a_node_and_tells_its_free_memory() -> None:
    devices.require_device(CUDA)
    assert (devices.free_bytes(CUDA) or 0) > 0

"""`shoal doctor`: what is broken is a problem with a fix, whatever broke; a probe that crashes or hangs is told."""

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster import instance
from cluster.cli_doctor import checks
from cluster.doctor import hardware, models, service, software
from cluster.doctor.finding import Finding, State, examined
from cluster.doctor.providers import tried
from cluster.settings import Settings, validated
from cluster.status.report import ReplicaState
from replicas.completeness import require_complete
from replicas.engine import EngineStats
from replicas.errors import ModelImportError
from replicas.host import Host
from replicas.slot.place import CPU, PREFERENCE
from replicas.slot.start import kept
from replicas.slot.start.calibration import Calibration
from tests.cluster.command import Shell
from tests.models import tiny_export
from tests.replicas.broken_adapters import HARMS, Harm

CUDA = PREFERENCE[0]
GIB = 1 << 30


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.mktemp("exported") / "tiny")


@pytest.fixture
def home(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose store holds one whole model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    shutil.copytree(exported, tmp_path / "home" / "models" / "tiny")
    return tmp_path / "home"


def settings(**sections: object) -> Settings:
    return validated({"models": [{"name": "tiny"}], **sections}, "test")


def named(findings: Iterator[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_the_command_shows_every_area_and_a_missing_model_is_a_problem_with_its_fix(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Shell(monkeypatch, capsys)("doctor", "--json", "--port", str(instance.free_port()))
    tree = json.loads(ended.out)
    areas = {finding["area"] for finding in tree["findings"]}
    [missing] = [f for f in tree["findings"] if f["name"] == "smollm2-135m-instruct"]
    assert {"machine", "software", "providers", "models", "service"} <= areas
    assert (missing["state"], missing["fix"]) == ("problem", "shoal models fetch")
    assert (ended.status, tree["is_sound"]) == (1, False)


def test_the_command_prints_the_fix_for_people(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.parent / "shoal.yaml").write_text("htpp: {}\n")
    ended = Shell(monkeypatch, capsys)("doctor")
    told = " ".join(ended.out.split())
    assert ended.status == 1
    assert "did you mean 'http'?" in told
    assert "-> mend the file" in told
    assert " to mend" in told


def test_nothing_broken_is_status_0(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cluster.cli_doctor.checks", lambda home, settings: (software.python,))
    ended = Shell(monkeypatch, capsys)("doctor")
    assert (ended.status, "everything works" in ended.out) == (0, True)


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on() -> None:
    def broken() -> Iterator[Finding]:
        raise OSError("no such thing")

    first, second = examined([broken, software.python])
    assert (first.state, first.name, second.name) == (State.PROBLEM, "broken", "Python")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("raise SystemExit('no such library')", "ended with 1: no such library"),
        ('print(\'{"reason": "no GPU is visible"}\')', "no GPU is visible"),
        ("import time; time.sleep(600)", "no answer within 1 s"),
    ],
)
def test_a_provider_that_crashes_hangs_or_refuses_is_a_problem(code: str, words: str) -> None:
    finding = tried(CUDA, [sys.executable, "-c", code], 1.0 if "sleep" in code else 60.0, "one node")
    assert (finding.state, words in finding.detail) == (State.PROBLEM, True)
    assert "provider: cpu" in finding.fix


@pytest.mark.parametrize("what", ["one node", "a model"])
def test_the_cpu_works_for_real(exported: Path, what: str) -> None:
    command = [
        sys.executable,
        "-m",
        "replicas.slot.start.probe",
        "cpu",
        *([str(exported)] if what == "a model" else []),
    ]
    finding = tried(CPU, command, 60.0, what)
    assert (finding.state, finding.detail.startswith(f"works: ran {what} in")) == (State.OK, True)


def test_a_broken_model_fails_the_probe_with_the_reason(home: Path) -> None:
    (home / "models" / "tiny" / "model.onnx.data").unlink()
    finding = tried(
        CPU, [sys.executable, "-m", "replicas.slot.start.probe", "cpu", str(home / "models" / "tiny")], 60.0, ""
    )
    assert (finding.state, "model.onnx.data" in finding.detail) == (State.PROBLEM, True)


def test_a_whole_model_is_fine_and_a_missing_one_names_the_command(home: Path) -> None:
    findings = list(models.models(home, settings(models=[{"name": "tiny"}, {"name": "absent"}])))
    assert [(f.name, f.state) for f in findings] == [("tiny", State.OK), ("absent", State.PROBLEM)]
    assert findings[1].fix == "shoal models import FILE.gguf"


@pytest.mark.parametrize(
    ("file", "size", "words"),
    [
        ("model.onnx.data", 100, "are cut off"),
        ("model.onnx.data", None, "are missing"),
        ("model.onnx", 40, "not an ONNX graph"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("genai_config.json", 10, "genai_config.json"),
    ],
)
def test_an_incomplete_model_is_told(home: Path, file: str, size: int | None, words: str) -> None:
    path = home / "models" / "tiny" / file
    content = path.read_bytes()
    path.unlink() if size is None else path.write_bytes(content[:size])
    with pytest.raises(ModelImportError, match=words):
        require_complete(home / "models" / "tiny")
    finding = named(iter(models.models(home, settings())), "tiny")
    assert (finding.state, words in finding.detail) == (State.PROBLEM, True)


def test_calibrations_are_shown_by_model(tmp_path: Path) -> None:
    measured = Calibration(2, 16, ((1, 0.01), (16, 0.04)), ((64, 0.08),))
    kept.save(tmp_path, kept.Kept({"model": "tiny", "provider": "cpu"}, measured))
    [finding] = models.calibrations(tmp_path)
    assert finding.name == "tiny on cpu"
    assert finding.detail == "2 threads, up to 16 rows a step; tokens/s by rows: 100 at 1, 400 at 16"


def test_a_port_is_free_taken_by_shoal_or_by_a_stranger(home: Path) -> None:
    number = instance.free_port()
    chosen = settings(http={"port": number})
    name = f"port {number}"
    assert named(service.port(home, chosen), name).detail == "free"
    with socket.create_server(("127.0.0.1", number)):
        assert "another program" in named(service.port(home, chosen), name).detail
    instance.record(home, "127.0.0.1", number)
    assert "a Shoal instance" in named(service.port(home, chosen), name).detail


def test_an_instance_that_is_not_ready_is_a_problem(home: Path) -> None:
    number = instance.free_port()
    instance.record(home, "127.0.0.1", number)
    [finding] = service.instances(home)
    assert (finding.state, f"shoal down --port {number}" in finding.fix) == (State.PROBLEM, True)


def test_an_engine_on_a_lesser_provider_is_noted_with_the_reason_and_a_broken_one_is_a_problem() -> None:
    stats = EngineStats("tiny", "slot", "cpu", 4, 0, 0, 0, 0.0, 512, 0, 0, 0, ())
    lesser = replace(stats, fallbacks=(("cuda", "there is no NVIDIA driver"),))
    states = [ReplicaState("tiny", "a", lesser), ReplicaState("tiny", "b", replace(stats, is_healthy=False))]
    note, problem = service.engines(states)
    assert (note.state, problem.state) == (State.NOTE, State.PROBLEM)
    assert note.detail == "runs on cpu, because cuda did not work: there is no NVIDIA driver"
    assert list(service.engines([ReplicaState("tiny", "c", stats)])) == []


def test_packages_that_are_missing_or_of_another_version_name_the_installation() -> None:
    [missing] = software.package(Requirement("no-such-package-here>=1"))
    [other] = software.package(Requirement(f"ray!={metadata.version('ray')}"))
    assert (missing.fix, missing.detail) == ("pip install 'no-such-package-here>=1'", "not installed")
    assert (other.state, other.fix.startswith("pip install 'ray!=")) == (State.PROBLEM, True)
    assert named(software.packages(), "ray").state is State.OK


def test_two_builds_of_the_runtime_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed", lambda name: "1.31.1")
    assert "pip uninstall onnxruntime onnxruntime-gpu" in named(software.runtime(), "onnxruntime").fix
    monkeypatch.setattr(software, "installed", lambda name: None)
    assert "pip install 'shoal[cpu]'" in named(software.runtime(), "onnxruntime").fix


def limited(root: Path, size_bytes: int) -> Host:
    """A container of so much memory, on a processor without integer dot products."""
    for name, text in {
        "proc/self/cgroup": "0::/",
        "proc/cpuinfo": "flags: sse2",
        "sys/fs/cgroup/memory.max": str(size_bytes),
        "sys/fs/cgroup/memory.current": "0",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Host(root)


def test_a_small_container_is_a_problem_with_its_limit_told(tmp_path: Path) -> None:
    [finding] = hardware.memory(limited(tmp_path, GIB // 2))
    assert (finding.state, "0.5 GiB free of 0.5 (a limit of its container)" in finding.detail) == (State.PROBLEM, True)
    [slow] = hardware.instructions(Host(tmp_path))
    assert (slow.state, slow.detail) == (State.NOTE, "no integer dot products")


def test_small_shared_memory_and_an_idle_gpu_are_told(tmp_path: Path) -> None:
    [small] = hardware.shared_memory(1 << 60, tmp_path)
    assert (small.state, "--shm-size" in small.fix) == (State.PROBLEM, True)
    (tmp_path / "nvidiactl").write_text("")
    [idle] = hardware.gpu(frozenset({"CPUExecutionProvider"}), tmp_path)
    assert (idle.state, "shoal[gpu]" in idle.fix) == (State.NOTE, True)
    assert list(hardware.gpu(frozenset({"CUDAExecutionProvider"}), tmp_path)) == []


def test_every_problem_of_a_real_run_has_a_fix(home: Path) -> None:
    quick = [check for check in checks(home, settings()) if not is_probe(check)]
    findings = list(examined(quick))
    assert [finding for finding in findings if "the check broke" in finding.detail] == []
    assert all(finding.fix for finding in findings if finding.state is State.PROBLEM)


def is_probe(check: object) -> bool:
    return isinstance(check, partial) and check.func.__name__ == "providers"


@pytest.mark.parametrize("harm", HARMS)
def test_an_adapter_that_cannot_be_used_is_a_problem_with_its_fix(home: Path, harm: Harm) -> None:
    folder = home / "models" / "tiny" / "adapters"
    folder.mkdir()
    words = harm(folder / "bad")
    finding = named(models.models(home, settings()), "tiny:bad")
    assert (finding.state, words in finding.detail) == (State.PROBLEM, True)
    assert finding.fix == f"mend it, or take {folder / 'bad'} away"

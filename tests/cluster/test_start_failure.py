"""A service that cannot start says why in one line: before anything starts, or out of what Serve makes of the error."""

from pathlib import Path

import pytest

from cluster import start_failure
from cluster.start_failure import reason, told
from cluster.this_machine import require_possible
from cluster.up import ended
from deployments.plan import AppPlan, EnginePlan, PoolPlan
from replicas.errors import SettingsError
from replicas.slot.start.providers import available
from tests.cluster.command import Shell
from tests.models import tiny_export

RAYS = """\
The deployment failed to start 3 times in a row. Error:
\x1b[36mray::ServeReplica:shoal:OnnxPool-tiny-cpu.initialize_and_get_metadata()\x1b[39m (pid=4, ip=127.0.0.1)
  File "concurrent/futures/_base.py", line 449, in result
    return self.__get_result()
OSError: [Errno 5] the first of two errors
The above exception was the direct cause of the following exception:
  File "replicas/slot/start/providers.py", line 40, in candidates
    raise SettingsError("...")
replicas.errors.SettingsError: threads: 99 are more than this machine has
Traceback hidden.
"""


def plan(engine: EnginePlan) -> AppPlan:
    return AppPlan((PoolPlan("tiny", Path("tiny"), engine),), "tiny")


def test_a_provider_that_is_not_in_this_build_is_refused_with_what_there_is_and_what_brings_it() -> None:
    with pytest.raises(SettingsError, match=r"tiny: engine.provider 'cuda' .* has: cpu; .*shoal\[gpu\]"):
        require_possible(plan(EnginePlan(provider="cuda")), ("CPUExecutionProvider",), 4)
    require_possible(plan(EnginePlan(provider="cuda")), ("CUDAExecutionProvider", "CPUExecutionProvider"), 4)


def test_a_provider_of_an_engine_that_has_none_is_not_looked_for() -> None:
    require_possible(plan(EnginePlan(kind="echo", provider="cuda")), ("CPUExecutionProvider",), 4)


def test_more_threads_than_this_machine_has_cores_are_refused_with_the_most_there_can_be() -> None:
    require_possible(plan(EnginePlan(threads=4)), (), cores=4)
    with pytest.raises(SettingsError, match="threads 5 is more than this machine has cores: at most 4"):
        require_possible(plan(EnginePlan(threads=5)), (), cores=4)


@pytest.mark.skipif("CUDAExecutionProvider" in available(), reason="CUDA is here")
def test_up_refuses_it_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    tiny_export(tmp_path / "models" / "tiny")
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    (tmp_path / "cuda.yaml").write_text("models: [{name: tiny, engine: {provider: cuda}}]")
    shown = Shell(monkeypatch, capsys)("up", "--detach", "--port", "18097", "--config", str(tmp_path / "cuda.yaml"))
    assert (shown.status, shown.err.count("\n")) == (1, shown.err.startswith("starting") + 1)
    assert "engine.provider 'cuda' is not in this onnxruntime" in shown.err


def test_the_last_error_of_ours_is_the_reason_and_the_rest_goes_to_a_file(tmp_path: Path) -> None:
    error = told(RAYS, tmp_path / "run")
    file = tmp_path / "run" / start_failure.FILE
    assert error.fix == f"threads: 99 are more than this machine has (all of it: {file})"
    assert file.read_text().strip() == RAYS.strip()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("one\n  two\nValueError: three\nfour", "ValueError: three"),
        ("one\nno replica fits any node\n", "no replica fits any node"),
        ("", ""),
    ],
)
def test_without_an_error_of_ours_the_nearest_line_is_the_reason(words: str, why: str) -> None:
    assert reason(words) == why


def test_a_detached_start_tells_the_error_alone_and_where_the_log_is(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    log.write_text("starting ...\nraylet: something\nerror: the model\nis missing\n")
    assert str(ended(1, log)) == f"the model\nis missing (log: {log})"


def test_a_detached_start_that_told_no_error_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    log.write_text("killed: no error: here\n")
    assert str(ended(-9, log)).endswith(f"`shoal up` ended with status -9:\nkilled: no error: here\n(log: {log})")

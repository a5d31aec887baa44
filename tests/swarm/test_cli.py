"""`shoal swarm ...` against the routes on a real socket."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from typer.testing import CliRunner, Result

from cluster.cli_swarm import swarm_app
from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus
from cluster.swarm.progress import LINES, Progress
from replicas.engine import Usage
from replicas.errors import InvalidRequest, NotFound
from tests.swarm.answerers import Odd, Puppet
from tests.swarm.service import Service

YAML = "agents: [{role: echo, prompt: '{text}'}]\nover: {text: [%s]}\nname: '[b]odd[/b] name'\n"


def swarm_file(folder: Path, *texts: str) -> str:
    path = folder / "swarm.yaml"
    path.write_text(YAML % ", ".join(texts))
    return str(path)


def shoal_swarm(service: Service, *arguments: str) -> Result:
    return CliRunner().invoke(swarm_app, [*arguments, "--url", service.url])


def test_run_follows_a_job_and_prints_its_outputs(service: Service, tmp_path: Path) -> None:
    result = shoal_swarm(service, "run", swarm_file(tmp_path, "one", "'[red]two'"))
    assert result.exit_code == 0
    assert "echo on item 1\n[red]two" in result.stdout
    assert "succeeded: 2 of 2 done" in result.stderr


def test_run_as_json_prints_events_and_then_the_job(service: Service, tmp_path: Path) -> None:
    result = shoal_swarm(service, "run", swarm_file(tmp_path, "one"), "--json")
    *told, job = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["type"] for event in told][-2:] == ["output", "done"]
    assert (job["status"], job["outputs"][0]["text"]) == ("succeeded", "one")


def test_run_exits_1_when_the_job_failed(service: Service, puppet: Puppet, tmp_path: Path) -> None:
    puppet.failures["bad"] = [Odd("out of fish")]
    result = shoal_swarm(service, "run", swarm_file(tmp_path, "bad"))
    assert result.exit_code == 1
    assert "error: out of fish" in result.stdout


def test_a_job_that_is_not_followed_can_be_looked_up_listed_and_cancelled(service: Service, tmp_path: Path) -> None:
    started = shoal_swarm(service, "run", swarm_file(tmp_path, "slow"), "--no-follow", "--json")
    job_id = json.loads(started.stdout)["id"]
    assert json.loads(shoal_swarm(service, "status", job_id, "--json").stdout)["status"] in ("queued", "running")
    assert "[b]odd[/b] name" in shoal_swarm(service, "list").stdout
    assert json.loads(shoal_swarm(service, "cancel", job_id, "--json").stdout)["status"] == "cancelled"
    assert json.loads(shoal_swarm(service, "list", "--json").stdout)["id"] == job_id
    assert "cancelled: 1 of 1 done" in shoal_swarm(service, "events", job_id).stderr


def test_what_is_wrong_is_an_error_of_ours(service: Service, tmp_path: Path) -> None:
    assert isinstance(shoal_swarm(service, "status", "nope").exception, NotFound)
    (tmp_path / "bad.yaml").write_text("agent: []\n")
    result = shoal_swarm(service, "run", str(tmp_path / "bad.yaml"))
    assert isinstance(result.exception, InvalidRequest)


def test_an_interrupt_cancels_the_job_and_says_so(service: Service, puppet: Puppet, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from cluster.cli_swarm import swarm_app; swarm_app()"]
    arguments = ["run", swarm_file(tmp_path, "fast", "slow"), "--json", "--url", service.url]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert next(line for line in process.stdout if '"type":"output"' in line)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: cancelling" in said
    assert "is over: 1 agents had finished" in said
    assert puppet.cancelled == ["slow"]


def test_progress_stays_within_its_lines_and_counts_everything() -> None:
    progress = Progress("job", ("a", "b"), 200)
    for agent in range(100):
        progress.note(Event(EventType.STARTED, agent=agent))
        progress.note(Event(EventType.DELTA, agent=agent, text="x" * 1000))
        progress.note(
            Event(EventType.OUTPUT, agent=agent, text="x", usage=Usage(1, 2), error="e" if agent == 3 else None)
        )
    progress.note(Event(EventType.STATUS, status=JobStatus.RUNNING))
    assert progress.summary() == "job running: 100 of 200 done, 1 with an error, 200 tokens"

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress)
    assert console.export_text().count("\n") == LINES + 1

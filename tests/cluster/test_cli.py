"""The command line: every command explains itself, errors are told in a line with exit status 1, JSON is JSON."""

import json
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cluster import cli, instance
from replicas.errors import SettingsError
from tests.cluster.command import Shell
from tests.deployments.served import PLAN, serving
from tests.models import tiny_gguf

pytestmark = pytest.mark.usefixtures("empty_home")


def commands(command: object, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)


@pytest.mark.parametrize("path", list(commands(get_command(cli.app))), ids=" ".join)
def test_every_command_explains_itself(shoal: Shell, path: tuple[str, ...]) -> None:
    ended = shoal(*path, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert "Usage:" in ended.out


def test_the_commands_of_the_first_release_are_there() -> None:
    known = {" ".join(path) for path in commands(get_command(cli.app))}
    assert {"up", "down", "status", "chat", "run", "demo", "config show", "models list", "models import"} <= known
    assert {"swarm run", "swarm status", "swarm events", "swarm cancel"} <= known


def test_an_unknown_option_is_a_usage_error(shoal: Shell) -> None:
    ended = shoal("up", "--prot", "1")
    assert ended.status == 2
    assert "--port" in ended.err


def test_the_settings_are_shown_as_json_and_as_yaml_that_is_read_again(shoal: Shell, empty_home: Path) -> None:
    shown = shoal("config", "show", "--json")
    tree = json.loads(shown.out)
    assert tree["http"]["port"] == 8000
    Path("shoal.yaml").write_text(shoal("config", "show").out)
    assert json.loads(shoal("config", "show", "--json").out) == tree


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config", "show", "--config", "none.yaml"], "cannot read none.yaml"),
        (["config", "show", "--port", "70000"], "http.port"),
        (["up", "--model", "ghost", "--port", "18099"], "shoal models import"),
        (["run", "hello", "--port", "1"], "`shoal up --detach --port 1` starts one"),
        (["models", "import", "none.gguf"], "none.gguf"),
        (["swarm", "status", "x", "--port", "1"], "127.0.0.1:1"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_status_1(shoal: Shell, arguments: list[str], words: str) -> None:
    ended = shoal(*arguments)
    assert (ended.status, ended.out) == (1, "")
    line = ended.err.replace("starting ...\n", "")
    assert line.startswith("error: ")
    assert words in line
    assert line.count("\n") == 1


def test_brackets_in_an_error_are_text(shoal: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise SettingsError("a [bold]name[/] and [/nothing] at all")

    monkeypatch.setattr(cli, "load_settings", fail)
    assert shoal("config", "show").err == "error: a [bold]name[/] and [/nothing] at all\n"


def test_an_interrupt_ends_quietly_with_the_shells_status(shoal: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_settings", interrupt)
    assert shoal("config", "show").status == 130


def test_without_an_instance_status_and_down_say_so(shoal: Shell) -> None:
    ended = shoal("status")
    assert (ended.status, "`shoal up --detach` starts one" in ended.out) == (1, True)
    assert "`shoal up --detach --port 18099` starts one" in shoal("status", "--port", "18099").out
    listed = shoal("status", "--json")
    assert (listed.status, json.loads(listed.out)) == (1, [])
    down = shoal("down", "--port", "18099")
    assert (down.status, down.err) == (1, "no Shoal instance on port 18099\n")


def test_down_of_another_port_leaves_an_instance_alone_and_names_it(shoal: Shell, empty_home: Path) -> None:
    mine = instance.record(empty_home, "127.0.0.1", 18098)
    ended = shoal("down", "--port", "18099")
    assert (ended.status, "running on: 18098" in ended.err) == (1, True)
    assert instance.find(empty_home, 18098) == mine


def test_up_on_a_port_that_is_used_says_why(shoal: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        for arguments in (["up", "--port", port], ["up", "--detach", "--port", port]):
            ended = shoal(*arguments)
            assert ended.status == 1
            assert "choose another with --port" in ended.err


def test_models_are_imported_listed_and_refused(shoal: Shell, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "small.gguf")
    imported = shoal("models", "import", str(file), "--name", "small", "--json")
    assert json.loads(imported.out)["name"] == "small"
    [listed] = json.loads(shoal("models", "list", "--json").out)
    assert (listed["name"], listed["context_tokens"]) == ("small", 512)
    assert "small" in shoal("models", "list").out
    file.write_bytes(file.read_bytes()[:5000])
    refused = shoal("models", "import", str(file), "--name", "cut")
    assert refused.status == 1
    assert "cannot import" in refused.err
    assert len(json.loads(shoal("models", "list", "--json").out)) == 1


@pytest.fixture
def port(empty_home: Path) -> Iterator[str]:
    """The port of an edge without Ray, recorded as an instance."""
    with serving(PLAN) as served:
        instance.record(empty_home, *served.address)
        yield str(served.address[1])


def test_run_prints_the_answer(shoal: Shell, port: str) -> None:
    assert shoal("run", "say this", "--port", port).out == "say this\n"
    tree = json.loads(shoal("run", "say this", "--port", port, "--json", "--max-tokens", "3").out)
    assert (tree["content"][0]["text"], tree["stop_reason"]) == ("say", "max_tokens")


def test_run_prints_what_looks_like_markup_as_it_is(shoal: Shell, port: str) -> None:
    assert shoal("run", "[bold]x[/] :fish: [/none]", "--port", port).out == "[bold]x[/] :fish: [/none]\n"


def test_run_tells_what_the_service_refused(shoal: Shell, port: str) -> None:
    ended = shoal("run", "hello", "--model", "ecko", "--port", port)
    assert ended.status == 1
    assert "echo" in ended.err


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    shoal: Shell, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert shoal("run", "hello", "--port", port).out == "hello\n"
    assert json.loads(shoal("status", "--json", "--port", port).out)[0]["is_answering"] is True


def test_chat_keeps_the_conversation_until_an_empty_line(
    shoal: Shell, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["first", "second", ""])
    monkeypatch.setattr("cluster.cli_talk._ask", lambda: next(said))
    assert shoal("chat", "--port", port).out == "first\nsecond\n"


def test_status_shows_every_engine_and_the_slots_in_use(shoal: Shell, port: str) -> None:
    [report] = json.loads(shoal("status", "--json", "--port", port).out)
    assert (report["shoal_engine_slots_used"], report["is_answering"]) == (0, True)
    assert [pool["model"] for pool in report["service"]["pools"]] == ["echo", "tiny"]
    assert report["processes"][0]["unique_bytes"] > 0
    shown = shoal("status", "--processes").out
    assert "0 of 4" in shown
    assert "not answering" not in shown


def test_an_instance_that_does_not_answer_is_said_not_to(shoal: Shell, empty_home: Path) -> None:
    instance.record(empty_home, "127.0.0.1", instance.free_port())
    [report] = json.loads(shoal("status", "--json").out)
    assert (report["is_answering"], report["service"]) == (False, None)
    assert "not answering" in shoal("status").out


def test_the_command_is_one_that_a_shell_can_start(empty_home: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "config", "show", "--config", "none.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: cannot read none.yaml: No such file or directory\n"


INTERRUPTED_IMPORT = """
import signal, sys
class Interrupting:
    def find_spec(name, *_):
        if name == "cluster.cli_talk":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
from importlib.metadata import EntryPoint
EntryPoint("shoal", sys.argv[1], "console_scripts").load()()
"""


def test_an_interrupt_while_the_commands_are_imported_ends_quietly_too() -> None:
    project = tomllib.loads((Path(cli.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, project["scripts"]["shoal"]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")

"""`shoal upstream` as a command of its own."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cluster.command import Shell
from tests.cluster.upstream.played import HEADERS, MESSAGES, QUESTION, body


@contextmanager
def command(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The running command and its URL."""
    words = [sys.executable, "-m", "cluster.cli", "upstream", "--port", "0", "--json", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_a_signal_and_ends_without_a_word(number: signal.Signals) -> None:
    with command() as (process, url):
        message = httpx.post(f"{url}{MESSAGES}", json=body(), headers=HEADERS).json()
        assert message["content"] == [{"type": "text", "text": QUESTION}]
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


def test_it_plays_a_script_with_a_fault_and_records(tmp_path: Path) -> None:
    script, record = tmp_path / "upstream.yaml", tmp_path / "requests.jsonl"
    script.write_text("answers: [{text: From the script.}]\nfaults: [{kind: status, status: 429, times: 1}]")
    with command("--script", str(script), "--record", str(record), "--fault", "{kind: html, status: 503}") as (_, url):
        statuses = [httpx.post(f"{url}{MESSAGES}", json=body(), headers=HEADERS).status_code for _ in range(2)]
    assert statuses == [429, 503]
    assert [json.loads(line)["status"] for line in record.read_text().splitlines()] == [429, 503]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def test_what_it_cannot_use_is_told_in_a_line(shell: Shell, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = shell("upstream", "--port", str(taken.getsockname()[1]))
    assert (ended.status, "choose another with --port" in ended.err) == (1, True)
    for arguments, words in (
        (("--script", "/nowhere.yaml"), "No such file"),
        (("--fault", "cutt"), "--fault: kind"),
        (("--record", str(tmp_path)), "cannot write"),
    ):
        ended = shell("upstream", "--port", "0", *arguments)
        assert (ended.status, words in ended.err) == (1, True), ended.err

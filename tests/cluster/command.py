"""The `shoal` command in this process: exit status, stdout and stderr, as a shell would see them."""

import sys
from dataclasses import dataclass

import pytest

from cluster import cli


@dataclass(frozen=True)
class Ended:
    """A command that is done."""

    status: int
    out: str
    err: str


class Shell:
    """Runs commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["shoal", *arguments])
        self._capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        assert isinstance(status, int)
        captured = self._capsys.readouterr()
        return Ended(status, captured.out, captured.err)

"""`shoal models adapters`: what lies beside a model, as a table and as JSON."""

import json
from pathlib import Path

import pytest

from replicas.adapters import install_shipped
from tests.cluster.command import Shell
from tests.models import tiny_gguf
from tests.replicas.broken_adapters import HARMS, Harm


@pytest.fixture
def shoal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line on a home with one model, "small"."""
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    shoal = Shell(monkeypatch, capsys)
    assert shoal("models", "import", str(tiny_gguf(tmp_path / "small.gguf")), "--name", "small").status == 0
    return shoal


def test_a_model_without_adapters_says_where_they_go(shoal: Shell) -> None:
    ended = shoal("models", "adapters", "small")
    assert ended.status == 0
    assert "small has no adapters" in ended.out


def test_the_adapters_of_a_model_are_listed(shoal: Shell, tmp_path: Path) -> None:
    model = tmp_path / "home" / "models" / "small"
    install_shipped(model)
    [listed] = json.loads(shoal("models", "adapters", "small", "--json").out)
    assert (listed["name"], listed["purpose"]) == ("tools", "tools")
    assert listed["path"] == str(model / "adapters" / "tools")
    assert "chatml" in shoal("models", "adapters", "small").out


@pytest.mark.parametrize("harm", HARMS)
def test_an_adapter_that_cannot_be_used_is_listed_with_the_reason(shoal: Shell, tmp_path: Path, harm: Harm) -> None:
    folder = tmp_path / "home" / "models" / "small" / "adapters"
    folder.mkdir()
    words = harm(folder / "bad")
    [listed] = json.loads(shoal("models", "adapters", "small", "--json").out)
    assert words in listed["problem"]
    told = shoal("models", "adapters", "small").out
    assert ("no: " in told, words in told) == (True, True)


def test_a_model_that_is_not_there_is_refused(shoal: Shell) -> None:
    ended = shoal("models", "adapters", "other")
    assert ended.status == 1
    assert "model 'other' does not exist" in ended.err

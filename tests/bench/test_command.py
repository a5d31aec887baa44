"""Commands of benchmarks: where their figures go, and how they end."""

import json
import signal
from pathlib import Path

import pytest

from bench.command import command, ending, keep
from cluster.demo.service import Ended
from replicas.errors import Unavailable


def test_figures_go_where_json_says_into_folders_that_need_not_be_there(tmp_path: Path) -> None:
    result = tmp_path / "results" / "x.json"
    parser = command("bench.x", "What x is worth.", result)
    assert parser.prog == "python -m bench.x"
    assert parser.parse_args([]).json == result
    path = parser.parse_args(["--json", str(tmp_path / "deep" / "down" / "y.json")]).json
    keep({"figure": 1.5}, path)
    assert json.loads(path.read_text()) == {"figure": 1.5}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Ended(signal.SIGTERM), 128 + signal.SIGTERM),
        (Unavailable("a free port"), f"error: {Unavailable('a free port')}"),
    ],
)
def test_what_stops_a_command_is_told_by_its_exit(error: BaseException, code: object) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        ending(main)
    assert stopped.value.code == code


def test_a_command_that_is_done_says_nothing_more() -> None:
    done: list[str] = []
    ending(lambda: done.append("it"))
    assert done == ["it"]

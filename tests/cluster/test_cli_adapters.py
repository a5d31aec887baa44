"""`shoal adapters`: listed, loaded and unloaded by name; what cannot be is told in a line."""

import json
import shutil
from collections.abc import Iterator

import pytest

from deployments.plan import AppPlan, EnginePlan, PoolPlan
from tests.cluster.command import Shell
from tests.deployments.served import Served, serving
from tests.replicas.engines import slot_engine, tiny
from tests.replicas.peft import random_pairs, write_peft


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(tiny().directory, directory)
    (directory / "adapters").mkdir()
    write_peft(directory / "adapters" / "poet [x]", random_pairs())
    pool = PoolPlan("small", directory, EnginePlan(slots=4), context_tokens=256)
    with serving(AppPlan((pool,), "small"), small=[slot_engine()]) as served:
        yield served


def test_an_adapter_is_loaded_listed_and_unloaded(served: Served, shoal: Shell) -> None:
    port, name = str(served.address[1]), "small:poet [x]"
    assert "no" in shoal("adapters", "list", "--port", port).out.split()
    assert shoal("adapters", "load", name, "--port", port).out == f"{name}: loaded on 1 replica\n"
    [row] = json.loads(shoal("adapters", "list", "small", "--port", port, "--json").out)["adapters"]
    assert (row["name"], row["is_loaded"]) == ("poet [x]", True)
    assert name in shoal("adapters", "list", "--port", port).out
    gone = json.loads(shoal("adapters", "unload", name, "--port", port, "--json").out)
    assert (gone["name"], gone["is_loaded"]) == ("poet [x]", False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "small:ghost"], "adapter 'ghost' does not exist: beside the model: poet [x]"),
        (["unload", "small:ghost"], "adapter 'ghost' does not exist: loaded: none"),
        (["load", "ghost:poet"], "model 'ghost' does not exist"),
        (["load", "poet"], "write MODEL:ADAPTER"),
        (["list", "ghost"], "model 'ghost' does not exist"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(served: Served, shoal: Shell, arguments: list[str], words: str) -> None:
    ended = shoal("adapters", *arguments, "--port", str(served.address[1]))
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert words in ended.err


def test_without_a_service_the_command_that_starts_one_is_named(shoal: Shell) -> None:
    ended = shoal("adapters", "list", "--port", "1")
    assert (ended.status, "`shoal up --detach --port 1`" in ended.err) == (1, True)

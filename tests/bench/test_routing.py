"""bench.routing: fair tasks that are graded right, a cloud of the accuracy that is stated, and what is told of it."""

import json
from pathlib import Path

import httpx
import pytest

from bench.routing.asking import Graded, write_labelled
from bench.routing.service import script
from bench.routing.tasks import Said, Task, tasks
from cluster.route_cases import labelled
from router.policy.candidate import Candidate
from router.policy.rule import Routing
from tests.cluster.upstream.played import CHAT, HEADERS, playing

MADE = tasks(200, 1)


def by_cloud(task: Task) -> Said:
    """What a model says that knows it all."""
    return Said(task.right, tuple((name, json.dumps(arguments)) for name, arguments in task.calls))


def test_the_same_seed_gives_the_same_tasks_of_five_kinds_none_twice() -> None:
    assert [task.prompt for task in tasks(200, 1)] == [task.prompt for task in MADE]
    assert {task.kind for task in MADE} == {"arithmetic", "extraction", "classification", "tools", "open"}
    assert len({task.prompt for task in MADE}) == len(MADE) > 190


def test_the_right_answer_is_right_and_an_empty_or_foreign_one_is_wrong() -> None:
    for task in MADE:
        assert task.is_right(by_cloud(task)), task
        assert not task.is_right(Said("I do not know.", (("no_such_tool", "{}"),) if task.tools else ())), task


@pytest.mark.parametrize(
    ("prompt", "text", "is_right"),
    [
        ("What is", "3 + 4 = 9", False),
        ("Answer with one word.", "positive and negative", False),
        ("Answer with one word.", "", False),
    ],
)
def test_half_right_answers_are_wrong(prompt: str, text: str, is_right: bool) -> None:
    kinds = {"What is": "arithmetic", "Answer with one word.": "classification"}
    found = [task for task in MADE if task.kind == kinds[prompt] and task.right != "9"]
    assert [task.is_right(Said(text)) for task in found] == [is_right] * len(found)


@pytest.mark.parametrize(("accuracy", "least", "most"), [(1.0, 1.0, 1.0), (0.5, 0.35, 0.65), (0.0, 0.0, 0.0)])
def test_the_scripted_cloud_is_right_as_often_as_is_stated(accuracy: float, least: float, most: float) -> None:
    asked = MADE[:100]
    with playing(json.dumps(script(asked, accuracy))) as cloud, httpx.Client(base_url=cloud.url) as client:
        good = 0
        for task in asked:
            message = client.post(CHAT, json=task.body("large"), headers=HEADERS).json()["choices"][0]["message"]
            calls = [one["function"] for one in message.get("tool_calls") or ()]
            said = Said(message.get("content") or "", tuple((one["name"], one["arguments"]) for one in calls))
            good += task.is_right(said)
    wrong_is_right = sum(task.is_right(Said("I do not know.")) for task in asked)  # where no tool fits
    assert least * 100 <= good <= most * 100 + wrong_is_right


def test_the_file_of_both_answers_is_what_training_reads(tmp_path: Path) -> None:
    local = [Graded(task, Said(""), float(at % 2), 0.0) for at, task in enumerate(MADE)]
    cloud = [Graded(task, Said(""), 1.0, 0.001) for task in MADE]
    write_labelled(local, cloud, tmp_path / "both.jsonl")
    routing = Routing((Candidate("small"),), detectors=())
    read = labelled(tmp_path / "both.jsonl", routing)
    assert [(one.local, one.cloud, one.cost_usd) for one in read] == [(at % 2, 1.0, 0.001) for at in range(len(MADE))]
    assert [len(one.call.tools) for one in read] == [len(task.tools) for task in MADE]

"""bench.routing: fair tasks that are graded right, a cloud of the accuracy that is stated, and what is told of it."""

import json
from pathlib import Path

import httpx
import pytest

from bench.routing.asking import Graded, write_labelled
from bench.routing.service import script
from bench.routing.tasks import Said, Task, tasks
from bench.routing.trainings import Labels, table
from cluster.route_cases import cases_in, examples_in, labelled
from cluster.route_request import call_of_prompt
from router.learned.training import train
from router.learned.traits import traits_of
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


def labels(tmp_path: Path) -> Labels:
    """Tasks of which the local model does the open ones and the classifications."""
    done = [Graded(task, by_cloud(task), float(task.kind in {"open", "classification"}), 0.0) for task in MADE]
    write_labelled(done, [Graded(task, by_cloud(task), 1.0, 0.001) for task in MADE], tmp_path / "all.jsonl")
    routing = Routing((Candidate("tiny", is_local=True),))
    requests = labelled(tmp_path / "all.jsonl", routing)
    return Labels(requests, cases_in(requests, routing, tmp_path / "all.jsonl"), "tiny", 0.9)


def test_more_examples_leave_fewer_tasks_undecided_and_the_quality_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.routing.trainings.SHARES", (0.35, 0.7))
    monkeypatch.setattr("bench.routing.trainings.TIMES", 10)
    few, many = labels(tmp_path).trainings()
    assert (few.examples, many.examples) == (round(0.35 * len(MADE)), round(0.7 * len(MADE)))
    assert 0.2 < min(few.saved, many.saved) <= max(few.saved, many.saved) < 0.6
    assert many.abstained < few.abstained
    assert min(few.kept, many.kept) >= 0.8
    assert f"{many.saved:.1%}" in table([few, many])


UNLIKE = (
    "Write a haiku about the autumn rain over a quiet harbour.",
    "Explain in simple terms how vaccines train the immune system.",
    "Give me advice on negotiating a higher salary with my boss.",
    "Draft an apology letter to a customer whose parcel was lost.",
    "Is it safe to take ibuprofen together with aspirin?",
    "What should I cook tonight with eggs and spinach?",
    "What is the statute of limitations for contract claims?",
    "Plan a weekend trip to Rome for a family.",
    "How do I fix a leaking kitchen tap?",
    "Tell me a joke about lawyers.",
)


def test_requests_unlike_all_tasks_are_strange_to_what_learned_from_them(tmp_path: Path) -> None:
    made = labels(tmp_path)
    known, others = made.requests[:140], made.requests[140:]
    model = train(examples_in(known), "tiny")
    strange = [bool(model.predict(traits_of(call_of_prompt(text))).strange) for text in UNLIKE]
    assert sum(strange) >= 0.6 * len(UNLIKE)
    assert sum(bool(model.predict(one.traits).strange) for one in others) <= 0.3 * len(others)

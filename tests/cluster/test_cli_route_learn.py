"""`shoal route train | evaluate | report`, on labelled requests and on a journal, and what `explain` tells of it."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.engine import Message, Sampling
from router.call import Call
from router.journal.entry import Feedback, JournalEntry, Option, Outcome, Result, Try
from router.learned.model import SIZE_LIMIT_BYTES
from router.learned.traits import TRAITS, traits_of
from router.store import open_store
from router.store.address import StoreAddress
from tests.cluster.command import Shell
from tests.router.learned.made import question

SETTINGS = """
models: [{name: small}]
clouds:
  - name: acme
    kind: anthropic
    base_url: https://api.acme.dev
    models: [{name: claude-haiku-4-5}]
routing:
  policy: learned
  learned: {model_file: route.json, quality: 0.8, explore: 0.1}
"""
CLOUD = "acme/claude-haiku-4-5"
EASY = "Tell me the colour of the barn. sky sea lamp"
HARD = "Compute 412 * 3377 - 90."


def lines(count: int, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    for at in range(count):
        is_hard = at % 2 == 0
        is_good = is_hard == (draw.random() < 0.1)
        prompt = question(draw, is_hard=is_hard)
        asked = {"prompt": prompt} if at % 3 else {"request": {"messages": [{"role": "user", "content": prompt}]}}
        yield json.dumps({**asked, "local": float(is_good), "cloud": 0.95, "cost_usd": 0.01})


def entries(count: int, explore: float, first: int = 0) -> Iterator[JournalEntry]:
    """A journal of a policy that prefers the local model, and leaves the share `explore` to chance."""
    draw = random.Random(first + 5)
    for at in range(first, first + count):
        is_hard = at % 2 == 0
        chose = "small" if draw.random() < 1 - explore / 2 else CLOUD
        good = 0.95 if chose == CLOUD else 0.1 if is_hard else 0.9
        call = Call(f"call-{at}", None, (Message("user", question(draw, is_hard=is_hard)),), Sampling(1024))
        odds = {"small": 1 - explore / 2, CLOUD: explore / 2}
        yield JournalEntry(
            id=f"call-{at}",
            at=1_700_000_000.0 + at,
            key_id="",
            session="",
            by="policy",
            rule="learned",
            is_private=False,
            options=tuple(Option(name, odds[name]) for name in sorted(odds, key=lambda name: name != chose)),
            result=Result(
                Outcome.ANSWERED, chose, tries=(Try(chose, "answered"),), cost_nano=10_000_000 * (chose == CLOUD)
            ),
            features={TRAITS: traits_of(call).line},
            feedback=Feedback(float(draw.random() < good), "", 1.0),
        )


def journalled(home: Path, told: list[JournalEntry]) -> None:
    store = open_store(StoreAddress.of_file(home / "shoal.sqlite"))
    try:
        store.decisions.add(told)
        for one in told:
            assert one.feedback is not None
            store.feedback.give(one.id, one.key_id, one.feedback)
    finally:
        store.close()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    (tmp_path / "shoal.yaml").write_text(SETTINGS)
    (tmp_path / "train.jsonl").write_text("\n".join(lines(200, 1)))
    (tmp_path / "test.jsonl").write_text("\n".join(lines(200, 2)))
    return Shell(monkeypatch, capsys)


def test_what_is_trained_on_labelled_requests_is_evaluated_reported_and_explained(shell: Shell) -> None:
    trained = json.loads(shell("route", "train", "--data", "train.jsonl", "--json").out)
    assert (trained["local"], trained["examples"]) == ("small", 200)
    assert trained["cloud_quality"] == pytest.approx(0.95)
    assert trained["cloud_by"] == "labels"
    assert Path("route.json").stat().st_size < SIZE_LIMIT_BYTES
    told = json.loads(shell("route", "evaluate", "--data", "test.jsonl", "--json").out)
    assert told["auc"] > 0.8
    assert (
        told["savings"]["oracle"]["value"] >= told["savings"]["learned"]["value"] > told["savings"]["random"]["value"]
    )
    points = json.loads(shell("route", "report", "--data", "test.jsonl", "--json").out)["points"]
    assert {point["policy"] for point in points} == {"rules", "learned", "random", "oracle"}
    rules = next(point for point in points if point["policy"] == "rules")
    assert rules["local_share"] == 0.0  # where `learned` abstains, the policy `otherwise` prefers clouds
    explained = {
        text: json.loads(shell("route", "explain", text, "--json").out) for text in (EASY, HARD, "word " * 700)
    }
    assert [one["learned"]["pick"] for one in explained.values()] == ["local", "cloud", None]
    assert [one["route"][0]["name"] for one in explained.values()] == ["small", CLOUD, CLOUD]
    assert explained[EASY]["learned"]["low"] < explained[EASY]["learned"]["probability"]
    assert explained[EASY]["odds"] == {"small": pytest.approx(0.95), CLOUD: pytest.approx(0.05)}


def test_people_get_tables_and_the_reason_why_it_abstains(shell: Shell) -> None:
    assert "AUC" in shell("route", "train", "--data", "train.jsonl").out
    assert "abstains from" in shell("route", "evaluate", "--data", "test.jsonl").out
    assert "p >= 0.50" in shell("route", "report", "--data", "test.jsonl").out
    words = shell("route", "explain", "word " * 700).out
    assert "learned abstains: not sure: chars" in words


def test_a_journal_with_chance_in_it_is_learned_from_and_evaluated(shell: Shell, tmp_path: Path) -> None:
    journalled(tmp_path, list(entries(600, explore=0.4)))
    trained = json.loads(shell("route", "train", "--json").out)
    assert (trained["local"], trained["auc"] > 0.75) == ("small", True)
    assert trained["cloud_quality"] == pytest.approx(0.95, abs=0.06)
    assert trained["cloud_by"] == "odds"
    for command in ("evaluate", "report"):
        ended = shell("route", command)
        assert (ended.status, "600 decisions that the model may have learned from" in ended.err) == (1, True)
    journalled(tmp_path, list(entries(500, explore=0.4, first=600)))
    told = json.loads(shell("route", "evaluate", "--threshold", "0.5", "--json").out)
    assert (told["decisions"], told["left_out"], told["learned_from"]) == (500, 0, 600)
    assert (told["cloud_by"], told["cloud_quality"]) == ("odds", trained["cloud_quality"])
    quality = {name: one["quality"]["dr"] for name, one in told["policies"].items()}
    assert quality["all local"]["low"] <= 0.5 <= quality["all local"]["high"]
    assert quality["all cloud"]["low"] <= 0.95 <= quality["all cloud"]["high"]
    learned = quality["learned, p >= 0.50"]
    assert quality["learned, as set, or as logged"]["value"] > quality["all local"]["value"]
    assert learned["value"] > quality["all local"]["value"] + 0.2
    assert "doubly robust" in shell("route", "evaluate").out
    assert "logged" in (words := shell("route", "report").out)
    assert "as set, or as logged" in words
    assert "by the odds in the journal" in words.replace("\n", " ")


def test_a_journal_without_chance_can_be_learned_from_but_compares_nothing(shell: Shell, tmp_path: Path) -> None:
    journalled(tmp_path, list(entries(200, explore=0.0)))
    ended = shell("route", "train")
    assert ended.status == 0
    assert "taken for granted: none of its answers was scored" in ended.out.replace("\n", " ")
    for command in ("evaluate", "report"):
        ended = shell("route", command)
        assert ended.status == 1
        assert "could have gone otherwise" in ended.err
        assert "routing.learned.explore" in ended.err


def test_only_what_came_since_a_day_is_read(shell: Shell, tmp_path: Path) -> None:
    journalled(tmp_path, list(entries(200, explore=0.0)))
    ended = shell("route", "train", "--since", "2030-01-01")
    assert (ended.status, "0 examples" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "train.jsonl:1: line"),
        ('{"local": 1}', "one of `prompt` and `request` is needed"),
        ('{"prompt": "a", "local": 2}', "train.jsonl:1: local"),
        ('{"prompt": "write to jane@acme.com", "local": 1}', "is private (email)"),
        ('{"request": {"messages": 3}, "local": 1}', "train.jsonl:1: "),
    ],
)
def test_a_line_that_is_wrong_is_named(shell: Shell, line: str, words: str) -> None:
    Path("train.jsonl").write_text(line)
    ended = shell("route", "train", "--data", "train.jsonl")
    assert ended.status == 1
    assert words in ended.err.replace("\n", " ")


def test_comparisons_need_the_side_of_the_cloud(shell: Shell) -> None:
    shell("route", "train", "--data", "train.jsonl")
    Path("test.jsonl").write_text('{"prompt": "a", "local": 1}')
    assert "has no `cloud` or no `cost_usd`" in shell("route", "report", "--data", "test.jsonl").err


@pytest.mark.parametrize("policy", ["policy: learned", "rules: [{name: a, to: learned}]"])
def test_learned_without_a_model_file_is_an_error_of_the_settings(shell: Shell, policy: str) -> None:
    Path("shoal.yaml").write_text(f"models: [{{name: small}}]\nrouting: {{{policy}}}")
    ended = shell("route", "explain", "hello")
    assert (ended.status, "routing.learned.model_file is not set" in ended.err) == (1, True)


def test_the_model_file_must_be_named_somewhere(shell: Shell) -> None:
    Path("shoal.yaml").write_text("models: [{name: small}]")
    assert "set routing.learned.model_file" in shell("route", "train", "--data", "train.jsonl").err
    assert shell("route", "train", "--data", "train.jsonl", "--out", "mine.json").status == 0
    assert "AUC" in shell("route", "evaluate", "--model-file", "mine.json", "--data", "test.jsonl").out


def test_a_picture_is_drawn_where_matplotlib_is_and_asked_for_where_it_is_not(shell: Shell) -> None:
    shell("route", "train", "--data", "train.jsonl")
    ended = shell("route", "report", "--data", "test.jsonl", "--plot", "frontier.png")
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError:
        assert (ended.status, "pip install -e '.[bench]'" in ended.err) == (1, True)
    else:
        assert Path("frontier.png").read_bytes().startswith(b"\x89PNG")

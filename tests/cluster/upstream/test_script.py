"""The script: how it is read, which of its entries a request gets, and what chance decides."""

from collections import Counter
from pathlib import Path

import pytest

from cluster.upstream.asked import Asked, Dialect, Tool
from cluster.upstream.casting import Casting, Scene
from cluster.upstream.reply import reply_to
from cluster.upstream.script import FaultKind, ModelCard, Script, load_script, parsed_fault, parsed_script
from replicas.errors import SettingsError

SEEDED = "{seed: %d, faults: [{kind: status, status: 500, probability: 0.3}]}"
QUIZ = """
models: [{id: m, accuracy: 0.8}]
answers:
  - {when: {pattern: 'question \\d+'}, text: right, wrong: {text: wrong}}
"""


def scene(path: str = "/v1/messages", headers: dict[str, str] | None = None, **asked: object) -> Scene:
    facts: dict[str, object] = {
        "dialect": Dialect.ANTHROPIC,
        "model": "claude-1",
        "question": "why?",
        "prompt": "so: why?",
    }
    is_inference = path in ("/v1/messages", "/v1/chat/completions")
    return Scene(path, is_inference, headers or {}, Asked(**{**facts, **asked}))  # type: ignore[arg-type]  # fields by name


def drawn(script: str, scenes: list[Scene]) -> list[bool]:
    """Which of `scenes` meet a fault, one after the other."""
    casting = Casting(parsed_script(script, "test"))
    return [casting.fault(one) is not None for one in scenes]


@pytest.mark.parametrize(
    ("when", "other"),
    [
        ("model: claude-*", scene(model="gpt-1")),
        ("contains: why", scene(question="how?")),
        ("pattern: '^so:'", scene(prompt="why?")),
        ("dialect: anthropic", scene(dialect=Dialect.OPENAI)),
        ("headers: {X-Role: 'review*'}", scene(headers={"x-role": "writer"})),
        ("has_tools: true", scene()),
        ("is_stream: true", scene()),
        ("is_after_tool: true", scene()),
        ("path: /v1/messages/count_tokens", scene()),
        ("model: '*'", scene("/v1/messages/count_tokens")),
    ],
)
def test_an_entry_holds_for_what_matches_and_nothing_else(when: str, other: Scene) -> None:
    tools = (Tool("t", {}),)
    wanted = scene(headers={"x-role": "reviewer"}, tools=tools, is_stream=True, is_after_tool=True)
    counting = scene("/v1/messages/count_tokens")
    script = f"faults: [{{kind: cut, when: {{{when}}}}}]"
    assert drawn(script, [counting if when.startswith("path") else wanted, other]) == [True, False]


def test_the_first_entry_that_matches_wins() -> None:
    casting = Casting(parsed_script("faults: [{kind: cut, when: {model: gpt-*}}, 529, 500]", "test"))
    fault = casting.fault(scene())
    assert fault is not None
    assert (fault.kind, fault.status) == (FaultKind.STATUS, 529)


def test_an_entry_skips_and_runs_out() -> None:
    script = "faults: [{kind: cut, skip: 2, times: 3}]"
    assert drawn(script, [scene()] * 7) == [False, False, True, True, True, False, False]


def test_chances_come_from_the_seed() -> None:
    first, again, other = (drawn(SEEDED % seed, [scene()] * 2000) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert 520 < sum(first) < 680  # 600 expected, four standard deviations are 82


def test_times_count_the_faults_that_struck() -> None:
    struck = drawn("{seed: 4, faults: [{kind: cut, probability: 0.5, times: 10}]}", [scene()] * 200)
    assert sum(struck) == 10


def test_accuracy_is_the_share_of_questions_answered_right() -> None:
    script = parsed_script(QUIZ, "test")
    texts = []
    for number in range(1000):
        asked = scene(question=f"question {number}", prompt=f"question {number}").asked
        entry = Casting(script).answer(Scene("/v1/messages", True, {}, asked))
        texts.append(reply_to(asked, entry, script.models[0], script.seed).text)
    assert 750 < Counter(texts)["right"] < 850  # four standard deviations are 51
    assert Counter(texts)["wrong"] == 1000 - Counter(texts)["right"]


def test_a_model_errs_again_at_the_same_question() -> None:
    script = parsed_script(QUIZ, "test")
    asked = scene(question="question 7", prompt="question 7").asked
    texts = {reply_to(asked, script.answers[0], ModelCard(id="m", accuracy=0.5), 0).text for _ in range(5)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("529", "status", 529),
        ("cut", "cut", None),
        ("{kind: html, status: 503}", "html", 503),
        ('{"kind": "reset"}', "reset", None),
    ],
)
def test_a_fault_has_short_forms(text: str, kind: str, status: int | None) -> None:
    fault = parsed_fault(text, "test")
    assert (fault.kind, fault.status) == (kind, status)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("faults: [{kind: cutt}]", "faults.0.kind"),
        ("fault: []", "fault: Extra inputs"),
        ("models: [{}]", "models.0.id"),
        ("models: [{id: a, accuracy: 2}]", "models.0.accuracy"),
        ("faults: [{kind: cut, when: {pattern: '('}}]", "no regular expression"),
        ("seed: [", "is not YAML"),
        ("- 1", "Script: Input should be"),
    ],
)
def test_a_script_that_is_wrong_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "upstream.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"upstream\.yaml") as refused:
        load_script(path)
    assert words in str(refused.value)


def test_a_script_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file"):
        load_script(tmp_path / "none.yaml")


def test_an_empty_script_is_the_default() -> None:
    assert parsed_script("", "test") == Script()

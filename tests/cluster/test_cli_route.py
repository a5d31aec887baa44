"""`shoal route explain` decides as the service would, from the settings alone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.planning import plan_of
from cluster.route_request import call_of_prompt
from cluster.settings import load_settings
from replicas.errors import SettingsError
from router.budget import Budgets, Claim, Reservation
from router.budget.budget import Taken
from router.origin import origin_of
from router.policy.decide import UNPRICED
from router.policy.explain import tree
from tests.cluster.command import Shell
from tests.deployments.served import serving

SETTINGS = """
models: [{name: small}, {name: large}]
clouds:
  - name: acme
    kind: anthropic
    base_url: https://api.acme.dev
    models: [{name: claude-haiku-4-5, sees_images: true}]
routing:
  policy: prefer-cloud
  rules:
    - {name: private stays, when: {private: true}, to: local-only}
    - {name: tools, when: {tools: {min: 1}}, to: [large]}
    - {name: night, when: {time: "22:00-06:00"}, to: [small]}
    - {name: judges, when: {role: judge}, to: cheapest}
"""
MESSAGES = {
    "model": "auto",
    "max_tokens": 50,
    "messages": [
        {"role": "user", "content": [{"type": "image", "source": {}}, {"type": "text", "text": "what is it"}]}
    ],
}
CHAT = {
    "messages": [{"role": "user", "content": "the weather?"}],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shoal.yaml").write_text(SETTINGS)
    return Shell(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["hello", "--given", "time=12:00"], "prefer-cloud"),
        (["hello", "--given", "time=23:00"], "night"),
        (["write to jane@acme.com", "--given", "time=12:00"], "private stays"),
        (["hello", "--header", "X-Shoal-Private: 1"], "private stays"),
        (["hello", "--header", "x-shoal-role: judge", "--given", "time=12:00"], "judges"),
        (["hello", "--given", "model=large"], "large"),
    ],
)
def test_it_tells_the_rule_that_decides(shell: Shell, arguments: list[str], rule: str) -> None:
    ended = shell("route", "explain", *arguments, "--json")
    assert (ended.status, json.loads(ended.out)["rule"]) == (0, rule)


def test_it_tells_people_who_answers_who_lost_and_why(shell: Shell) -> None:
    lines = shell("route", "explain", "write to jane@acme.com", "--given", "time=12:00").out.splitlines()
    assert lines[:5] == [
        "decided by rule 'private stays'",
        "private: email",
        "1. small: local",
        "2. large: local",
        "-  acme/claude-haiku-4-5: local-only leaves it out",
    ]
    assert "tokens_in 9" in lines[5]


def test_a_body_of_either_protocol_is_read(shell: Shell, tmp_path: Path) -> None:
    told = []
    for name, body in {"messages": MESSAGES, "chat": CHAT}.items():
        (tmp_path / name).write_text(json.dumps(body))
        told.append(json.loads(shell("route", "explain", "--body", name, "--given", "time=12:00", "--json").out))
    assert [(one["rule"], one["features"]["image"], one["features"]["tools"]) for one in told] == [
        ("prefer-cloud", True, 0),
        ("tools", False, 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jane@acme.com", "--given", "model=claude-haiku-4-5"], "the request may not leave for a cloud"),
        (["hello", "--given", "model=gpt-17"], "model 'gpt-17' does not exist"),
    ],
)
def test_the_status_is_1_where_nobody_answers(shell: Shell, arguments: list[str], words: str) -> None:
    ended = shell("route", "explain", *arguments)
    assert ended.status == 1
    assert f"nobody answers: {words}" in ended.out or words in ended.out


@pytest.mark.parametrize(
    ("at_limit", "status", "words"),
    [("degrade", 0, "small: local, for want of money"), ("refuse", 1, "nobody answers: the budget is spent")],
)
def test_what_comes_of_a_spent_budget_is_told_beforehand(shell: Shell, at_limit: str, status: int, words: str) -> None:
    Path("shoal.yaml").write_text(SETTINGS.replace("policy: prefer-cloud", f"at_limit: {at_limit}"))
    ended = shell("route", "explain", "hello", "--given", "model=acme/claude-haiku-4-5", "--given", "budget=spent")
    assert ended.status == status
    assert words in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--given", "time=25:00"], "--given: hour must be in 0..23"),
        (["--given", "colour=red"], "'colour' is none of what `--help` names"),
        (["--given", "budget=huge"], "'budget' is none of what"),
        (["--header", "nothing"], "'nothing' is not NAME:VALUE"),
        (["--body", "none.json"], "cannot read none.json"),
        (["--body", "shoal.yaml"], "shoal.yaml is not JSON"),
    ],
)
def test_a_wrong_option_is_told_in_a_line(shell: Shell, arguments: list[str], words: str) -> None:
    ended = shell("route", "explain", *arguments)
    assert ended.status == 1
    assert words in ended.err


CHECKED = """
models: [{name: echo, engine: {kind: echo}}]
clouds:
  - {name: acme, kind: anthropic, base_url: "https://api.acme.dev", models: [{name: claude-haiku-4-5}]}
"""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            "routing: {rules: [{name: mine, private: true, to: claude-haiku-4-5}]}",
            "'mine' marks requests private and sends them to the cloud acme/claude-haiku-4-5",
        ),
        ("routing: {rules: [{name: a, to: local-only}, {name: b, to: local-only}]}", "'b' is never reached"),
        ("routing: {rules: [{name: a, to: opus}]}", "'a' sends to 'opus', which is not there"),
        ("routing: {policy: learned}", "routing.learned.model_file is not set"),
        ("budgets: [{name: a, usd: 1}, {name: a, usd: 2}]", "budgets: two are called 'a'"),
        ("costs: {baseline: gpt-17}", "costs.baseline: "),
        ("costs: {prices: [{name: a, input: 1, output: 1}, {name: a, input: 2, output: 2}]}", "'a' is there twice"),
        (
            "experiments: [{name: x, rule: nobody, variants: [{name: a}, {name: b, to: echo}]}]",
            "there is no rule 'nobody'",
        ),
    ],
)
def test_what_would_stop_a_start_is_told_by_commands_that_start_nothing(
    shell: Shell, tmp_path: Path, wrong: str, words: str
) -> None:
    Path("shoal.yaml").write_text(CHECKED + wrong)
    with pytest.raises(SettingsError) as refused:
        plan_of(load_settings(None), tmp_path, has_gpu=False)
    assert words in str(refused.value)
    for command in (("config", "show"), ("route", "explain", "hello")):
        ended = shell(*command)
        assert (ended.status, ended.out, ended.err) == (1, "", f"error: {refused.value}\n")


AGREED = """
models: [{name: echo, engine: {kind: echo}}]
clouds:
  - {name: keyless, kind: openai, base_url: "http://127.0.0.1:9/v1", key_env: NO_SUCH_KEY, models: [{name: ghost}]}
  - {name: unpriced, kind: openai, base_url: "http://127.0.0.1:9/v1", models: [{name: phantom}]}
budgets: [{name: each-job, usd: 1, each: job}]
routing: {policy: prefer-cloud}
"""


@pytest.mark.parametrize("model", ["auto", "keyless/ghost", "unpriced/phantom"])
@pytest.mark.parametrize("job", ["", "j1"])
def test_of_clouds_without_a_key_or_a_price_it_says_what_the_service_says(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, job: str
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    Path("shoal.yaml").write_text(AGREED)
    headers = {"x-shoal-job": job}
    options = ["--header", f"x-shoal-job: {job}", "--given", f"model={model}"]
    told = json.loads(shell("route", "explain", "hello", *options, "--json").out)
    plan = plan_of(load_settings(None), tmp_path, has_gpu=False)
    budgets = Budgets(plan.budgets, Untouched(), lambda _: None)
    with serving(plan, budgets=budgets) as served:
        call = replace(call_of_prompt("hello"), model=model, origin=origin_of(headers))
        found = tree(served.answerer.policy.decide(call))
    assert [told[part] for part in ("by", "rule", "route", "lost")] == [
        found[part] for part in ("by", "rule", "route", "lost")
    ]
    lost = {one["name"]: one["why"] for one in told["lost"]}
    if model == "auto":
        assert lost["keyless/ghost"] == "the cloud keyless is not available; set NO_SUCH_KEY to its key"
        assert lost.get("unpriced/phantom") == (UNPRICED if job else None)


class Untouched:
    """Budgets of which nothing is taken."""

    def reserve(self, reservation: Reservation) -> None:
        pytest.fail("nothing is asked of a cloud here")

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        return [Taken(0) for _ in claims]

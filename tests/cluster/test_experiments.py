"""`experiments:` and `journal:` in the settings, and `shoal experiments` on a store."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.experiments import experiments_of
from cluster.planning import plan_of
from cluster.routing import routing_of
from cluster.settings import load_settings, validated
from replicas.errors import SettingsError
from router.experiments.experiment import Experiment
from router.journal.archive import Retention
from router.store import Kept, StoreAddress, open_store
from tests.cluster.command import Shell
from tests.router.decisions import tried

CLOUD = {"name": "acme", "kind": "openai", "base_url": "https://acme.dev/v1", "models": [{"name": "big"}]}
RULES = [
    {"name": "private stays", "when": {"private": True}, "to": "local-only"},
    {"name": "marked", "when": {"role": "doctor"}, "to": "local-only", "private": True},
    {"name": "code", "when": {"code": True}, "to": "careful"},
]
TREE = {
    "models": [{"name": "small", "aliases": ["tiny"]}, {"name": "large"}],
    "clouds": [CLOUD],
    "routing": {"rules": RULES, "chains": {"careful": ["big", "large"]}},
}
CONTROL = {"name": "as-ever"}


def made(*variants: object, **changes: object) -> Experiment:
    """The experiment that is written so."""
    written = {"name": "e", "variants": [CONTROL, *variants], **changes}
    settings = validated({**TREE, "experiments": [written]}, "shoal.yaml")
    return experiments_of(settings, routing_of(settings))[0]


def refusal(*variants: object, **changes: object) -> str:
    with pytest.raises(SettingsError) as caught:
        made(*variants, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("to", "names", "policy"),
    [
        ("tiny", ("small",), None),
        ("careful", ("acme/big", "large"), None),
        (["large", "acme/big"], ("large", "acme/big"), None),
        ("cheapest", (), "cheapest"),
    ],
)
def test_a_variant_sends_wherever_a_rule_may(to: object, names: tuple[str, ...], policy: str | None) -> None:
    sends = made({"name": "other", "to": to}).variants[1].sends
    assert sends is not None
    assert (sends.to, sends.policy) == (names, policy)


def test_what_is_written_is_what_there_is() -> None:
    found = made({"name": "brief", "system": "Be brief.", "weight": 3}, share=0.25, rule="code")
    assert (found.name, found.share, found.rule) == ("e", 0.25, "code")
    assert [(one.name, one.weight, one.sends, one.system) for one in found.variants] == [
        ("as-ever", 1.0, None, ""),
        ("brief", 3.0, None, "Be brief."),
    ]


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ({"name": "as-ever"}, {}, "two are called 'as-ever'"),
        ({"name": "other", "to": "lrge"}, {}, "sends to 'lrge', which is not there; did you mean 'large'?"),
        ({"name": "other"}, {"rule": "cod"}, "there is no rule 'cod'; did you mean 'code'?"),
        ({"name": "other", "to": "big"}, {"rule": "private stays"}, "sends to the cloud acme/big, and all requests of"),
        ({"name": "other", "to": "careful"}, {"rule": "marked"}, "all requests of the rule 'marked' are private"),
        ({"name": "other", "to": "cheapest"}, {"rule": "marked"}, "sends to the cloud acme/big"),
        ({"name": "other", "system": "Write to jane@acme.com."}, {}, "holds what is private (email)"),
        ({"name": "other", "weight": 0}, {}, "experiments.0.variants.1.weight"),
        ({"name": "other"}, {"share": 0}, "experiments.0.share"),
        ({"name": "other", "model": "large"}, {}, "unknown key 'experiments.0.variants.1.model'"),
    ],
)
def test_what_cannot_be_right_is_told_by_its_place(variant: object, changes: Mapping[str, object], words: str) -> None:
    assert words in refusal(variant, **changes)


def test_a_rule_whose_requests_are_private_may_have_an_experiment_that_stays_here() -> None:
    assert made({"name": "large", "to": "large"}, rule="private stays").rule == "private stays"
    assert made({"name": "brief", "system": "Be brief."}, rule="marked").rule == "marked"


def test_two_experiments_may_not_share_a_name() -> None:
    one = {"name": "e", "variants": [CONTROL, {"name": "other"}]}
    settings = validated({**TREE, "experiments": [one, one]}, "shoal.yaml")
    with pytest.raises(SettingsError, match="two are called 'e'"):
        experiments_of(settings, routing_of(settings))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("", Retention(30.0)),
        ("journal: off", None),
        ("journal: on", Retention(30.0)),
        ("journal: {keep_days: 2, keep_rows: 5}", Retention(2.0, 5)),
        (
            "journal: {keep_experiment_days: 9}\nexperiments: [{name: x, variants: [{name: a}, {name: b}]}]",
            Retention(30.0, experiments=("x",), experiment_days=9.0),
        ),
    ],
)
def test_the_journal_is_kept_unless_it_is_off(tmp_path: Path, written: str, kept: Retention | None) -> None:
    (tmp_path / "shoal.yaml").write_text(f"models: [{{name: e, engine: {{kind: echo}}}}]\n{written}\n")
    assert plan_of(load_settings(tmp_path / "shoal.yaml"), tmp_path, has_gpu=False).journal == kept


def test_experiments_cross_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(
        "models: [{name: e, engine: {kind: echo}}]\n"
        "experiments: [{name: x, variants: [{name: a}, {name: b, to: e, system: Be brief.}]}]\n"
    )
    plan = plan_of(load_settings(tmp_path / "shoal.yaml"), tmp_path, has_gpu=False)
    assert [variant.name for variant in plan.experiments[0].variants] == ["a", "b"]
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize(
    "written",
    ["never", "5", "{keep_days: 0}", "{keep_experiment_days: 0}", "{days: 5}"],
)
def test_a_journal_that_cannot_be_is_an_error(tmp_path: Path, written: str) -> None:
    (tmp_path / "shoal.yaml").write_text(f"journal: {written}")
    with pytest.raises(SettingsError, match="journal"):
        load_settings(tmp_path / "shoal.yaml")


SETTINGS = """
models: [{name: small}, {name: large}]
experiments:
  - {name: size, share: 0.5, variants: [{name: as-ever}, {name: large, to: large, weight: 3}]}
  - {name: words, variants: [{name: as-ever}, {name: brief, system: Be brief.}]}
"""


@pytest.fixture
def shoal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shoal.yaml").write_text(SETTINGS)
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    rows = [tried("size", "as-ever", f"a{n}", is_good=n % 2 == 0, score=0.25, at=float(n)) for n in range(40)]
    rows += [tried("size", "large", f"b{n}", score=0.75, at=n + 0.5) for n in range(40)]
    store.decisions.add(rows)
    for row in rows:
        assert row.feedback is not None
        store.feedback.give(row.id, row.key_id, row.feedback)
    store.close()
    return Shell(monkeypatch, capsys)


def test_experiments_are_listed_with_their_shares_and_what_they_change(shoal: Shell) -> None:
    size, words = json.loads(shoal("experiments", "list", "--json").out)
    assert [(one["name"], one["share"], one["changes"], one["decisions"]) for one in size["variants"]] == [
        ("as-ever", 0.125, "nothing", 40),
        ("large", 0.375, "to large", 40),
    ]
    assert [(one["changes"], one["decisions"]) for one in words["variants"]] == [("nothing", 0), ("a system prompt", 0)]
    assert "37.5%" in shoal("experiments", "list").out


def test_a_report_has_each_variant_and_the_differences(shoal: Shell) -> None:
    found = json.loads(shoal("experiments", "report", "size", "--json").out)
    assert [(one["name"], one["success"]["value"], one["score"]["value"]) for one in found["variants"]] == [
        ("as-ever", 0.5, 0.25),
        ("large", 1.0, 0.75),
    ]
    assert [(one["measure"], one["difference"]["value"]) for one in found["comparisons"]] == [
        ("success", 0.5),
        ("score", 0.5),
    ]
    assert all(one["p_value"] < 0.01 for one in found["comparisons"])
    told = shoal("experiments", "report", "size").out
    assert "against as-ever" in told
    assert "+0.500" in told
    assert "The p-values hold whenever" in told.replace("\n", " ")


def test_a_report_says_that_no_p_values_hold_for_what_is_left_of_an_experiment(shoal: Shell, tmp_path: Path) -> None:
    assert json.loads(shoal("experiments", "report", "size", "--json").out)["p_values_hold"] is True
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    assert store.decisions.purge(Kept(5.0, 1_000), 1_000) == 10
    store.close()
    found = json.loads(shoal("experiments", "report", "size", "--json").out)
    assert (found["p_values_hold"], "up to 1970-01-01 are no longer" in found["p_values"]) == (False, True)
    assert "The p-values do not hold" in shoal("experiments", "report", "size").out


def test_a_report_goes_back_as_far_as_is_asked(shoal: Shell) -> None:
    found = json.loads(shoal("experiments", "report", "size", "--days", "1", "--json").out)
    assert [one["decisions"] for one in found["variants"]] == [0, 0]
    assert found["comparisons"] == []
    assert (found["p_values_hold"], "without --days" in found["p_values"]) == (False, True)


def test_an_experiment_that_is_not_there_is_told_with_those_that_are(shoal: Shell) -> None:
    refused = shoal("experiments", "report", "sizes", "--json")
    assert refused.status == 1
    assert "experiment 'sizes' does not exist: there is size, words in the settings" in refused.err

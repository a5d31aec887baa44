"""The policy `learned`: it picks where it is sure, leaves the rest to the rules, and explores with known odds."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from replicas.errors import SettingsError
from router.learned.chooser import Chooser
from router.learned.explore import draw
from router.learned.model import write_model
from router.origin import Origin
from router.policy.check import check
from router.policy.condition import ALWAYS, one
from router.policy.constraints import Like
from router.policy.decide import Policy
from router.policy.explain import header, lines, tree
from router.policy.rule import Learning, Routing, Rule
from tests.router.asked import ALL, HAIKU, OPUS, PRIVATE, at_noon, call, on_auto
from tests.router.learned.made import asked, trained
from tests.router.learned.test_live import at_once
from tests.router.test_route_header import DICTIONARY

EASY = "Tell me the colour of the barn. sky sea lamp"
HARD = "Compute 412 * 3377 - 90."
STRANGE = "word " * 900
SECRET = f"{EASY} jane@acme.com"
LEARNED = Rule("learn", on_auto(ALWAYS), policy="learned")
REST = Rule("rest", on_auto(ALWAYS), to=("large", HAIKU.name))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "route.json"
    write_model(trained(), path)
    return path


def deciding(file: Path, *rules: Rule, **more: object) -> Policy:
    learning = Learning(file, **{"threshold": 0.5, **more})  # type: ignore[arg-type]
    return Policy(Routing(ALL, rules, "learned", learning=learning), clock=at_noon)


@pytest.mark.parametrize(("text", "first"), [(EASY, "small"), (HARD, OPUS.name)])
def test_it_sends_what_the_local_model_will_do_there_and_the_rest_to_the_cloud(
    file: Path, text: str, first: str
) -> None:
    for policy, by in ((deciding(file), "policy"), (deciding(file, LEARNED, REST), "rule")):
        decision = policy.decide(call(text))
        assert (decision.by, decision.names[0], len(decision.names)) == (by, first, 4)
        assert decision.opinion is not None
        assert not decision.opinion.abstains


def test_the_model_that_was_learned_about_is_first_among_the_local_ones(tmp_path: Path) -> None:
    write_model(trained(400, "large"), tmp_path / "route.json")
    assert deciding(tmp_path / "route.json").decide(call(EASY)).names[:2] == ("large", "small")


def test_it_abstains_to_the_next_rule_and_without_one_to_the_policy_set_for_that(file: Path) -> None:
    decision = deciding(file, LEARNED, REST).decide(call(STRANGE))
    assert (decision.rule, decision.names) == ("rest", ("large", HAIKU.name))
    assert decision.opinion is not None
    assert "not like anything" in decision.opinion.why
    assert deciding(file).decide(call(STRANGE)).names[0] == OPUS.name
    assert deciding(file, otherwise="prefer-local").decide(call(STRANGE)).names[0] == "large"  # it does not fit small


@pytest.mark.parametrize("name", ["none.json", "other.json"])
def test_without_a_model_of_a_local_candidate_it_abstains(tmp_path: Path, name: str) -> None:
    write_model(trained(80, "elsewhere"), tmp_path / "other.json")
    decision = deciding(tmp_path / name, LEARNED, REST).decide(call(EASY))
    assert decision.rule == "rest"
    assert any(line.startswith("learned abstains: ") for line in lines(decision))


def test_a_private_request_stays_and_nothing_of_it_is_predicted(file: Path) -> None:
    for request in (call(SECRET), call(HARD, origin=Origin(is_private=True))):
        decision = deciding(file, explore=1.0).decide(request)
        assert set(decision.names) == {"small", "large"}
        assert decision.opinion is not None
        assert (decision.opinion.prediction, decision.odds) == (None, {})


def test_a_rule_that_marks_requests_private_keeps_them_even_where_it_would_abstain(file: Path) -> None:
    mine = Rule("hr", one("role", Like((frozenset({"hr"}),))), policy="learned", marks_private=True)
    decision = deciding(file, LEARNED, mine, REST, explore=1.0).decide(call(STRANGE, origin=Origin(role="hr")))
    assert decision.rule == "hr"
    assert set(decision.names) == {"small", "large"}


def test_a_spent_budget_leaves_local_models_and_no_odds(file: Path) -> None:
    decision = deciding(file, explore=1.0).decide(call(HARD), budget="spent")
    assert (set(decision.names), decision.odds) == ({"small", "large"}, {})


def test_what_comes_behind_a_learned_rule_is_reached_for_it_may_abstain(file: Path) -> None:
    learning = Learning(file)
    check(Routing(ALL, (Rule("p", PRIVATE_RULE, policy="local-only"), LEARNED, REST), learning=learning))
    keeps = Rule("keeps", on_auto(ALWAYS), policy="learned", marks_private=True)
    with pytest.raises(SettingsError, match="'rest' is never reached"):
        check(Routing(ALL, (keeps, REST), learning=learning))


PRIVATE_RULE = on_auto(PRIVATE)


@pytest.mark.parametrize(("text", "usual"), [(EASY, "small"), (HARD, OPUS.name), (STRANGE, "large")])
def test_as_many_requests_are_left_to_chance_as_the_odds_say(file: Path, text: str, usual: str) -> None:
    policy = deciding(file, LEARNED, Rule("rest", on_auto(ALWAYS), to=("large", "small", OPUS.name)), explore=0.4)
    firsts: Counter[str] = Counter()
    for at in range(1000):
        decision = policy.decide(replace(call(text), id=f"call-{at}"))
        firsts[decision.names[0]] += 1
        assert sum(decision.odds.values()) == pytest.approx(1)
        assert set(decision.odds) == set(decision.names)
    odds = policy.decide(call(text)).odds
    assert max(odds, key=lambda name: odds[name]) == usual
    assert all(abs(firsts[name] / 1000 - odds[name]) < 0.05 for name in odds)


def test_the_draw_hangs_on_seed_and_request_alone(file: Path) -> None:
    told = [
        [deciding(file, explore=0.5, seed=s).decide(asked(HARD, f"c{i}")).names for i in range(40)] for s in (1, 1, 2)
    ]
    assert told[0] == told[1] != told[2]
    assert 0 <= draw(0, "a") < 1


def test_feedback_on_local_answers_moves_the_opinion(file: Path) -> None:
    policy = deciding(file)
    before = policy.decide(call(EASY)).opinion
    for at in range(100):
        policy.decide(asked(EASY, f"call-{at}"))
        assert not policy.learn(f"call-{at}", HAIKU.name, 0.0)
        assert policy.learn(f"call-{at}", "small", 0.0)
    after = policy.decide(call(EASY)).opinion
    assert before is not None
    assert after is not None
    assert (before.pick, after.pick) == ("local", "cloud")
    assert not Policy(Routing(ALL)).learn("call-1", "small", 1.0)


def test_what_was_said_of_one_model_is_nothing_to_the_next(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "route.json"
    path.write_text(file.read_text())
    monkeypatch.setattr("router.learned.live.LOOK_S", 0.0)
    chooser = Chooser(Learning(path, threshold=0.5), at_once)
    fresh = Chooser(Learning(path, threshold=0.5), at_once).opinion(call(EASY), {"small"})
    for at in range(100):
        chooser.opinion(asked(EASY, f"call-{at}"), {"small"})
        assert chooser.learn(f"call-{at}", "small", 0.0)
    chooser.opinion(asked(EASY, "before"), {"small"})
    os.utime(path, (5, 5))
    assert chooser.opinion(call(EASY), {"small"}).pick == "cloud"  # the same model, written again
    write_model(trained(400, "small", 1), path)
    told = chooser.opinion(call(EASY), {"small"})
    assert (told.pick, told) == ("local", Chooser(Learning(path, threshold=0.5)).opinion(call(EASY), {"small"}))
    assert told != fresh
    assert not chooser.learn("before", "small", 0.0)


@pytest.mark.parametrize("text", [EASY, HARD, STRANGE])
def test_the_header_json_and_lines_tell_probability_interval_and_why(file: Path, text: str) -> None:
    decision = deciding(file, explore=0.1).decide(call(text))
    opinion = decision.opinion
    assert opinion is not None
    assert opinion.prediction is not None
    told = json.loads(json.dumps(tree(decision)))["learned"]
    assert (told["probability"], told["low"], told["high"]) == (
        opinion.prediction.probability,
        opinion.prediction.low,
        opinion.prediction.high,
    )
    assert DICTIONARY.fullmatch(header(decision))
    assert f";p={opinion.prediction.probability:.3f};" in header(decision)
    assert f"learned {'abstains' if opinion.abstains else opinion.pick}: {opinion.why}" in list(lines(decision))
    assert any(line.startswith("odds: ") for line in lines(decision))

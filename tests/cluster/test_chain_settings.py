"""The settings of the way to an answer: what each becomes, and what cannot be is told by its place."""

import json

import pytest

from cluster.settings import Settings, validated
from replicas.errors import SettingsError
from router.chain.backoff import Retries
from router.chain.bar import Bar
from router.chain.breaker import Limits
from router.chain.judge import PROMPT, Judging
from router.chain.terms import USUAL, Terms
from tests.cluster.test_routing import refusal, routing, rule

BOTH = ["small", "large"]


def terms(written: dict[str, object], to: object = BOTH) -> Terms:
    """The terms of the one rule that says `written`."""
    [found] = routing({"rules": [{**rule({"private": False}, to), **written}]}).rules
    return found.terms


def refused(written: dict[str, object], to: object = BOTH, when: object = None) -> str:
    return refusal({"rules": [{**rule({} if when is None else when, to), **written}]})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, USUAL),
        ({"gate": {}}, USUAL),
        ({"gate": {"mean_logprob": -1, "min_logprob": -5.5}}, Terms(Bar(-1.0, -5.5))),
        (
            {"gate": {"form": True, "refusals": True, "repetition": True, "least_characters": 2, "hold_tokens": 7}},
            Terms(Bar(None, None, True, True, True, 2, 7)),
        ),
        ({"gate": {"judge": {"model": "huge"}}}, Terms(Bar(), Judging("acme/vendor/huge", PROMPT, 5.0))),
        (
            {"gate": {"judge": {"model": "tiny", "prompt": "yes or no?", "wait_s": 1}, "serves_rejected": False}},
            Terms(Bar(), Judging("small", "yes or no?", 1.0), serves_rejected=False),
        ),
        ({"hedge_after_s": 0.5, "patience_s": 3}, Terms(hedge_after_s=0.5, patience_s=3.0)),
    ],
)
def test_a_rule_says_what_is_asked_of_the_way_to_an_answer(written: dict[str, object], expected: Terms) -> None:
    assert terms(written) == expected


def test_retries_and_breakers_are_set_for_all_chains() -> None:
    retries = {"times": 1, "base_s": 0.1, "cap_s": 1, "elsewhere_s": 0.5}
    breaker = {"failures": 3, "ratio": 0.9, "window_s": 10, "rest_s": 1, "rest_cap_s": 2, "probes": 1}
    found = routing({"retries": retries, "breaker": breaker})
    assert (found.retries, found.breaker) == (Retries(1, 0.1, 1.0, 0.5), Limits(3, 0.9, 10.0, 1.0, 2.0, 1))
    assert (routing({}).retries, routing({}).breaker) == (Retries(), Limits())


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"gate": {"mean_logprob": 0.5}}, "routing.rules.0.gate.mean_logprob"),
        ({"gate": {"hold_tokens": 8}}, "a gate looks at something"),
        ({"gate": {"serves_rejected": False}}, "a gate looks at something"),
        ({"gate": {"refusal": True}}, "did you mean 'refusals'?"),
        (
            {"gate": {"judge": {"model": "larg"}}},
            "has the judge 'larg', which is not there; did you mean 'large'?",
        ),
        ({"hedge_after_s": 0}, "routing.rules.0.hedge_after_s"),
    ],
)
def test_terms_that_cannot_be_are_told_by_their_place(written: dict[str, object], words: str) -> None:
    assert words in refused(written)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"gate": {"refusals": True}}, "a gate with nobody behind it"),
        ({"hedge_after_s": 1}, "waits for a second model, and sends to one alone"),
        ({"patience_s": 1}, "waits for a second model, and sends to one alone"),
    ],
)
def test_terms_that_change_nothing_are_a_mistake(written: dict[str, object], words: str) -> None:
    assert words in refused(written, "large")
    assert terms({"gate": {"refusals": True, "serves_rejected": False}}, "large").bar == Bar(refusals=True)


@pytest.mark.parametrize("to", [BOTH, "prefer-local"])
def test_a_private_request_that_a_judge_elsewhere_could_see_is_a_mistake(to: object) -> None:
    gate: dict[str, object] = {"gate": {"judge": {"model": "huge"}}}
    assert "could send a private request to the cloud acme/vendor/huge" in refused(gate, to)
    assert "marks requests private and sends them to the cloud" in refused({**gate, "private": True}, to)
    assert terms(gate, to).judging == Judging("acme/vendor/huge")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"breaker": {"failures": 1000}}, "at most 256 results are remembered"),
        ({"breaker": {"rest_s": 9, "rest_cap_s": 8}}, "rest_cap_s 8 is below rest_s 9"),
        ({"breaker": {"ratio": 0}}, "routing.breaker.ratio"),
        ({"retries": {"times": 11}}, "routing.retries.times"),
    ],
)
def test_retries_and_breakers_that_cannot_be_are_told(written: dict[str, object], words: str) -> None:
    assert words in refusal(written)


def test_settings_with_gates_are_read_back_as_they_are_shown() -> None:
    gate = {"form": True, "judge": {"model": "small"}}
    tree = {"models": [{"name": "small"}], "routing": {"rules": [{"name": "it", "to": "small", "gate": gate}]}}
    settings = validated(tree, "shoal.yaml")
    assert Settings.model_validate(json.loads(settings.model_dump_json())) == settings
    with pytest.raises(SettingsError):
        validated({"routing": {"breaker": {"probes": 0}}}, "shoal.yaml")

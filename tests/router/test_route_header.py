"""`x-shoal-route` is a structured field of printable characters whatever a caller sends, and tells no prompt."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from router.origin import Origin
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.explain import header, lines, tree
from router.policy.rule import Rule
from tests.router.asked import OPUS, call, policy

KEY = r"[a-z*][a-z0-9_.*-]*"
ITEM = r'(?:"(?:[ !#-\[\]-~]|\\["\\])*"|\?[01]|-?\d+(?:\.\d{1,3})?|[A-Za-z*][\w:/.*-]*)'
PARAMETERS = rf"(?:;{KEY}(?:={ITEM})?)*"
INNER = rf"\((?:{ITEM}{PARAMETERS}(?: {ITEM}{PARAMETERS})*)?\)"
MEMBER = rf"{KEY}(?:=(?:{ITEM}|{INNER}))?{PARAMETERS}"
DICTIONARY = re.compile(rf"{MEMBER}(?:, {MEMBER})*")
"""The grammar of RFC 9651 for what is used of it."""


@given(st.text(max_size=100), st.text(max_size=100), st.text('abcß"\\ -_\n', min_size=1, max_size=20))
def test_it_is_a_structured_field_whatever_is_asked(text: str, role: str, name: str) -> None:
    rule = Rule(name, one("header:x-team", Like((frozenset({"*"}),))), policy="prefer-cloud")
    decision = policy(rule).decide(call(text, role, origin=Origin(role, role, headers={"x-team": text})))
    assert DICTIONARY.fullmatch(header(decision))


def test_it_tells_the_rule_the_route_and_who_lost_and_why() -> None:
    told = header(policy(policy="prefer-cloud").decide(call("mail jane@acme.com", max_tokens=7)))
    assert told.startswith('rule="prefer-cloud";by=policy, to=("small" "large"), lost=("acme/claude-opus-5-5";why=')
    assert 'why="private requests stay here"' in told
    assert ";tokens_in=8;tokens_out=7;tools=0" in told
    assert told.endswith("private;email")
    assert "jane" not in told


def test_json_and_lines_tell_the_same() -> None:
    decision = policy().decide(call("secret jane@acme.com", model=OPUS.name))
    told = json.loads(json.dumps(tree(decision)))
    assert (told["by"], told["route"], told["private"]) == ("model", [], ["email"])
    assert any("nobody answers: the request may not leave" in line for line in lines(decision))

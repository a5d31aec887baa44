"""Checks a routing before anything is routed: names that exist, rules that can be reached, privacy that holds.

What reaches a rule is its condition less those of the rules before it (router/policy/condition.py). If nothing is left,
the rule is dead, which is a mistake of whoever wrote it. If a private request is left and the rule names a cloud, the
cloud would be taken from its route and the request might end nowhere: a rule that says who answers private requests
has to come first. The comparison never lets such a rule pass; where patterns overlap it may refuse one that is fine.
"""

import difflib
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from replicas.errors import SettingsError
from router.policy.condition import beyond, meet, one
from router.policy.constraints import Box, OneOf
from router.policy.rule import LEARNED, Routing, Rule

PRIVATE = one("private", OneOf(frozenset({True}))).boxes[0]


def check(routing: Routing) -> None:
    """Raises SettingsError that names all rules that are wrong, and what to write instead."""
    problems = [*_zone(routing), *_names(routing)]
    if not problems:
        problems = list(_rules(routing))
    if problems:
        raise SettingsError("\n".join(problems))


def _zone(routing: Routing) -> Iterator[str]:
    try:
        ZoneInfo(routing.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"routing.time_zone: {routing.time_zone!r} is no time zone; write one like `Europe/Berlin` or `UTC`"


def _names(routing: Routing) -> Iterator[str]:
    known = [one.name for one in routing.candidates]
    yield from (f"two candidates are called {name!r}" for name in _twice(known))
    yield from (f"routing.rules: two rules are called {name!r}" for name in _twice(rule.name for rule in routing.rules))
    for rule in routing.rules:
        yield from _terms(rule, routing, known)
        for name in rule.to:
            if name not in known:
                yield f"routing.rules: {rule.name!r} sends to {name!r}, which is not there{_nearest(name, known)}"


def _terms(rule: Rule, routing: Routing, known: list[str]) -> Iterator[str]:
    """What a rule asks of the way to an answer can be had, and changes something."""
    terms, place = rule.terms, f"routing.rules: {rule.name!r}"
    if terms.judging is not None and terms.judging.model not in known:
        yield f"{place} has the judge {terms.judging.model!r}, which is not there{_nearest(terms.judging.model, known)}"
    others = [one for one in routing.candidates if one.is_local or rule.policy != "local-only"]
    if len(rule.to if rule.policy is None else others) > 1:
        return
    if terms.hedge_after_s is not None or terms.patience_s is not None:
        yield f"{place} waits for a second model, and sends to one alone: add one, or drop hedge_after_s and patience_s"
    if terms.has_gate and terms.serves_rejected:
        yield f"{place} has a gate with nobody behind it: add a model, or write `serves_rejected: false` into it"


def _twice(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return sorted({name for name in listed if listed.count(name) > 1})


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(known)}"


def _rules(routing: Routing) -> Iterator[str]:
    taken: list[Box] = []
    for rule in routing.rules:
        try:
            left = beyond(rule.when.boxes, taken)
        except OverflowError:
            yield f"routing.rules: {rule.name!r} overlaps too much with earlier rules to be checked; split or drop some"
            return
        yield from _rule(rule, left, routing)
        if rule.policy != LEARNED or rule.marks_private:  # else it may abstain, and the next one decides
            taken += rule.when.boxes


def _rule(rule: Rule, left: list[Box], routing: Routing) -> Iterator[str]:
    judges = [rule.terms.judging.model] if rule.terms.judging is not None else []
    clouds = [name for name in (*rule.to, *judges) if not _is_local(routing, name)]
    if not left:
        yield f"routing.rules: {rule.name!r} is never reached: {_why_dead(rule)}"
    elif clouds and rule.marks_private:
        yield f"routing.rules: {rule.name!r} marks requests private and sends them to the cloud {clouds[0]}"
    elif clouds and any(meet(box, PRIVATE) is not None for box in left):
        yield (
            f"routing.rules: {rule.name!r} could send a private request to the cloud {clouds[0]}; put a rule "
            "`{when: {private: true}, to: local-only}` before it, or `private: false` into its `when`"
        )


def _why_dead(rule: Rule) -> str:
    return "the rules before it take all that it is for" if rule.when.boxes else "its conditions exclude each other"


def _is_local(routing: Routing, name: str) -> bool:
    candidate = routing.candidate(name)
    return candidate is not None and candidate.is_local

"""Decides who answers a call: the first rule that holds, else the model that was asked for, else the policy.

Rules are made to hold only for requests that leave the choice (no model, or `auto`), unless they name models: who asks
for a model gets it. Whatever decides, clouds are taken out of the route of a private request.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from router.call import Call
from router.policy.candidate import by_name
from router.policy.condition import WHOLE
from router.policy.decision import BUDGET_SPENT, Decision, Verdict
from router.policy.features import AUTO, Seen, features_of, model_asked, tokens_in
from router.policy.ready import Need, ranked
from router.policy.rule import PolicyName, Routing, Rule
from router.policy.speed import Speeds
from router.privacy.guard import Guard, Marking

Clock = Callable[[ZoneInfo], datetime]
Verdicts = tuple[Verdict, ...]


class Policy:
    """Decides by `routing`. `missing` are the candidates that cannot be asked from here, and why.

    With `sees_all` every feature is read, for explanations; otherwise those that the rules name.
    """

    def __init__(
        self,
        routing: Routing,
        missing: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = datetime.now,
        *,
        sees_all: bool = False,
    ) -> None:
        self.routing = routing
        self.guard = Guard(routing.detectors, routing.harmless)
        self.speeds = Speeds()
        named = frozenset(name for rule in routing.rules for name in rule.when.named)
        self._wanted = named | WHOLE.keys() if sees_all else named
        self._has_clouds = any(not one.is_local for one in routing.candidates)
        self._missing = missing
        self._clock = clock
        self._zone = ZoneInfo(routing.time_zone)
        self._by_name = by_name(routing.candidates)

    def decide(self, call: Call, budget: str = "ok") -> Decision:
        """Who answers `call`."""
        seen = Seen(call, self._mark(call), self._clock(self._zone), budget)
        features = features_of(seen, self._wanted)
        rule = next((rule for rule in self.routing.rules if rule.when.holds(features)), None)
        asked = model_asked(call)
        if rule is not None:
            route, lost = self._by_policy(rule.policy, call) if rule.policy else self._by_rule(rule)
            marking = seen.marking.by_rule() if rule.marks_private else seen.marking
            found = Decision("rule", rule.name, route, lost, features, marking)
        elif asked == AUTO:
            route, lost = self._by_policy(self.routing.policy, call)
            found = Decision("policy", self.routing.policy, route, lost, features, seen.marking)
        else:
            route = self._asked(asked)
            found = Decision("model", route[0].name if route else asked, route, (), features, seen.marking, not route)
        return self._settled(found, budget)

    def is_cloud(self, name: str | None) -> bool:
        """That is the name of a cloud's model."""
        found = self._by_name.get(name or AUTO)
        return found is not None and not found.is_local

    def _mark(self, call: Call) -> Marking:
        """Text is examined only where that can change something."""
        if self._has_clouds or "private" in self._wanted:
            return self.guard.mark(call)
        return Marking(call.id, ("header",) if call.origin.is_private else ())

    def _by_rule(self, rule: Rule) -> tuple[Verdicts, Verdicts]:
        route = tuple(Verdict(name, f"number {n} of the rule") for n, name in enumerate(rule.to, 1))
        others = (one.name for one in self.routing.candidates if one.name not in rule.to)
        return route, tuple(Verdict(name, "the rule does not name it") for name in others)

    def _by_policy(self, policy: PolicyName, call: Call) -> tuple[Verdicts, Verdicts]:
        need = Need(tokens_in(call), call.sampling.max_tokens, call.has_image)
        found = ranked(policy, self.routing.candidates, need, self.speeds)
        kept = {one.candidate.name for one in found}
        left_out = (one.name for one in self.routing.candidates if one.name not in kept)
        return tuple(Verdict(one.candidate.name, one.why) for one in found), tuple(
            Verdict(name, f"{policy} leaves it out") for name in left_out
        )

    def _asked(self, name: str) -> Verdicts:
        """The model of that name; `MODEL:ADAPTER` is the model's."""
        found = self._by_name.get(name) or self._by_name.get(name.rpartition(":")[0])
        return () if found is None else (Verdict(found.name, "asked for by name"),)

    def _settled(self, found: Decision, budget: str) -> Decision:
        """`found` without those that may not be asked."""
        barred = {name: self._bar(name, found.marking, budget) for name in found.names}
        kept = tuple(verdict for verdict in found.route if not barred[verdict.name])
        out = tuple(Verdict(name, why) for name, why in barred.items() if why)
        settled = replace(found, route=kept, lost=(*out, *found.lost))
        is_short = bool(out) and barred[found.names[0]] == BUDGET_SPENT
        return self._without_money(settled) if is_short else settled

    def _without_money(self, found: Decision) -> Decision:
        """What becomes of a request that a cloud would answer, if there were money."""
        if self.routing.at_limit == "refuse":
            return replace(found, route=())
        if found.route:
            return found
        local = tuple(Verdict(one.name, "local, for want of money") for one in self.routing.candidates if one.is_local)
        lost = tuple(one for one in found.lost if one.name not in {verdict.name for verdict in local})
        return replace(found, route=local, lost=lost, is_degraded=True)

    def _bar(self, name: str, marking: Marking, budget: str) -> str:
        candidate = self.routing.candidate(name)
        assert candidate is not None, "rules are checked before they decide (check.py)"
        if candidate.is_local:
            return ""
        if marking.is_private:
            return "private requests stay here"
        if budget == "spent":
            return BUDGET_SPENT
        return self._missing.get(name, "")
